/** A record played again. */

import type { RunEvent } from '../core/events.ts';
import { times } from '../core/example.ts';

/** Gives events at the speed of their record, all at once where motion is unwelcome; returns what ends it. */
export function replay(events: readonly RunEvent[], give: (event: RunEvent) => void): () => void {
  const clock = times(events);
  const still = window.matchMedia('(prefers-reduced-motion: reduce)').matches;
  const begun = performance.now();
  let at = 0;
  let timer = 0;
  const next = (): void => {
    const now = still ? Infinity : performance.now() - begun;
    for (; at < events.length && (clock[at] ?? 0) <= now; at += 1) give(events[at] as RunEvent);
    if (at < events.length) timer = window.setTimeout(next, (clock[at] ?? 0) - now);
  };
  next();
  return () => clearTimeout(timer);
}
