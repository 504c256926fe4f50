/** How fast a run goes, and by when it is over at the latest. */

import { isOver, type RunState } from './reducer.ts';

const WINDOW = 48; // steps that the speed is measured over

/** Steps a second over the last steps; 0 before there are enough to say. */
export function speed(run: RunState): number {
  if (run.timing && run.timing.tokens_per_second > 0) return run.timing.tokens_per_second;
  const recent = run.steps.slice(1).slice(-WINDOW); // the first step's time holds the start-up
  if (recent.length < 2) return 0;
  const ms = recent.reduce((sum, step) => sum + step.t_ms, 0);
  return ms > 0 ? (1000 * recent.length) / ms : 0;
}

/** Seconds until T_total is used up at the present speed: an upper bound; null when nothing can be said. */
export function secondsLeft(run: RunState): number | null {
  const perSecond = speed(run);
  if (isOver(run.status) || !run.spec || perSecond <= 0) return null;
  const left = run.spec.T_total - run.used.thinking - run.used.answer;
  return Math.max(0, left) / perSecond;
}

/** The bound in words, rounded up so that it does not flicker: "≤ 8 s", "≤ 2 min". */
export function bound(seconds: number): string {
  if (seconds <= 20) return `≤ ${Math.max(1, Math.ceil(seconds))} s`;
  if (seconds <= 90) return `≤ ${Math.ceil(seconds / 5) * 5} s`;
  return `≤ ${Math.ceil(seconds / 60)} min`;
}
