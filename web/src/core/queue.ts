/** Who waits for a model, in words. */

import { bound } from './eta.ts';
import type { Ahead } from './events.ts';
import { count } from './format.ts';

/** 1st, 2nd, 3rd, 4th, 11th. */
export function ordinal(value: number): string {
  const ends: Record<string, string> = { one: 'st', two: 'nd', few: 'rd' };
  return `${value}${ends[RULES.select(value)] ?? 'th'}`;
}

const RULES = new Intl.PluralRules('en', { type: 'ordinal' });

/**
 * "2nd in line, ≤ 12 s"; "3 210 left to read"; "running, ≤ 8 s left"; without the bound while no step has been
 * measured.
 */
export function placeWords({ status, position, eta_s: eta, unread }: Ahead): string {
  if (status === 'paused') return 'paused';
  const within = eta === null ? '' : `, ${bound(eta)}`;
  if (status === 'running' && unread > 0) return `${count(unread)} left to read${within && `${within} after that`}`;
  if (status === 'running') return `running${within && `${within} left`}`;
  return position === null ? 'queued' : `${ordinal(position)} in line${within}`;
}
