/** Who waits for a model, in words. */

import { bound } from './eta.ts';
import type { Ahead } from './events.ts';

/** 1st, 2nd, 3rd, 4th, 11th. */
export function ordinal(value: number): string {
  const ends: Record<string, string> = { one: 'st', two: 'nd', few: 'rd' };
  return `${value}${ends[RULES.select(value)] ?? 'th'}`;
}

const RULES = new Intl.PluralRules('en', { type: 'ordinal' });

/** "2nd in line, ≤ 12 s"; "running, ≤ 8 s left"; without the bound while no step has been measured. */
export function placeWords({ status, position, eta_s: eta }: Ahead): string {
  if (status === 'paused') return 'paused';
  const within = eta === null ? '' : `, ${bound(eta)}`;
  if (status === 'running') return `running${within && `${within} left`}`;
  return position === null ? 'queued' : `${ordinal(position)} in line${within}`;
}
