/** Events of a run, folded into what the page shows. The only writer of a RunState. */

import type { Engine, PhaseEnded, Prompt, Replay, RunEvent, Spec, Status, Step, Timing } from './events.ts';

/** How a phase ended; `at` is the number of steps before its end. */
export interface PhaseEnd extends PhaseEnded {
  at: number;
}

export interface RunState {
  id: string;
  seq: number; // of the last event; -1 before the first
  status: Status | 'unknown';
  createdAt: string;
  spec: Spec | null;
  prompt: Prompt | null;
  engine: Engine | null;
  prefilled: boolean;
  /** Of a paused run: for how many seconds its cache is held since then, 0 = it has none; null once it was given up. */
  paused: { held: number | null } | null;
  replay: Replay | null; // of a branch: how its parent's steps were fed again
  regained: Replay | null; // after a pause: how its own were
  steps: Step[]; // grows in place: steps[i].step === i
  /** The strategy rules the whole generation: there is no thinking before the answer. */
  whole: boolean;
  /** What has come so far among the steps before the answer, or in all of a whole generation. */
  seen: { mixture: boolean; sampled: boolean; combine: Step['combine'] };
  used: { thinking: number; answer: number }; // the transition is not counted
  text: { thinking: string; answer: string };
  /** Nothing was mixed or forced before the answer, as in the baseline: then all of the text counts as the answer. */
  ordinary: boolean;
  ended: { thinking: PhaseEnd | null; answer: PhaseEnd | null };
  timing: Timing | null;
  error: string | null;
}

export function newRun(id: string): RunState {
  return {
    id,
    seq: -1,
    status: 'unknown',
    createdAt: '',
    spec: null,
    prompt: null,
    engine: null,
    prefilled: false,
    paused: null,
    replay: null,
    regained: null,
    steps: [],
    whole: false,
    seen: { mixture: false, sampled: false, combine: 'sum' },
    used: { thinking: 0, answer: 0 },
    text: { thinking: '', answer: '' },
    ordinary: true,
    ended: { thinking: null, answer: null },
    timing: null,
    error: null,
  };
}

/** Whether nothing more will happen. */
export function isOver(status: RunState['status']): boolean {
  return status === 'finished' || status === 'cancelled' || status === 'failed';
}

/**
 * Applies the next event in place. An event that was applied before is left out, so that a replay after a lost
 * connection changes nothing; false says so. The same events in the same order always give the same state.
 */
export function apply(run: RunState, event: RunEvent): boolean {
  if (event.seq <= run.seq) return false;
  run.seq = event.seq;
  switch (event.type) {
    case 'run_queued':
      run.status = 'queued';
      run.spec = event.spec;
      run.createdAt = event.created_at;
      break;
    case 'run_started':
      run.status = 'running';
      run.prompt = event.prompt;
      run.engine = event.engine;
      break;
    case 'prefilled':
      run.prefilled = true;
      break;
    case 'step':
      if (event.step === 0) run.whole = isWhole(run, event);
      run.steps.push(event);
      if (event.phase === 'transition' || (event.phase === 'thinking' && event.kind === 'mixture')) run.ordinary = false;
      if (event.phase !== 'answer' || run.whole) look(run, event);
      if (event.phase !== 'transition') {
        run.used[event.phase] += 1;
        run.text[event.phase] += event.text;
      }
      break;
    case 'phase_ended':
      run.ended[event.phase] = { ...event, at: run.steps.length };
      run.text[event.phase] += event.text;
      break;
    case 'run_paused':
      run.status = 'paused';
      run.paused = { held: event.held_s };
      break;
    case 'run_resumed':
      run.status = event.status;
      run.paused = null;
      break;
    case 'lane_released':
      if (run.paused) run.paused = { held: null };
      break;
    case 'replayed':
      run[event.state === 'kept' ? 'regained' : 'replay'] = event;
      break;
    case 'run_finished':
    case 'run_cancelled':
    case 'run_failed':
      run.status = event.type === 'run_finished' ? 'finished' : event.type === 'run_cancelled' ? 'cancelled' : 'failed';
      run.paused = null;
      run.timing = event.timing ?? run.timing;
      run.error = event.error ?? null;
      break;
  }
  return true;
}

/** Only a strategy that rules the whole generation begins with the answer although thinking was allowed. */
function isWhole(run: RunState, first: Step): boolean {
  const thought = run.ended.thinking !== null || first.phase !== 'answer';
  return !thought && ((run.spec?.T_e ?? 0) > 0 || first.kind === 'mixture');
}

function look({ seen }: RunState, { kind, combine }: Step): void {
  if (kind === 'mixture') {
    seen.mixture = true;
    if (combine !== 'sum') seen.combine = combine;
  } else if (kind === 'sampled') seen.sampled = true;
}

/** What counts as the answer so far. */
export function answerOf({ ordinary, text }: RunState): string {
  return (ordinary ? text.thinking : '') + text.answer;
}

/** What the run is doing, for the status line. */
export type Doing = 'queued' | 'reading' | 'thinking' | 'answering' | 'over';

export function doing(run: RunState): Doing {
  if (isOver(run.status)) return 'over';
  if (run.status === 'queued' || run.status === 'unknown') return 'queued';
  if (!run.prefilled || run.steps.length === 0) return 'reading';
  const answering = run.ended.thinking !== null || run.spec?.T_e === 0 || run.whole;
  return answering ? 'answering' : 'thinking';
}
