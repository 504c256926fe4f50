/** Events of a run, folded into what the page shows. The only writer of a RunState. */

import type { Engine, PhaseEnded, Prompt, RunEvent, Spec, Status, Step, Timing } from './events.ts';

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
  steps: Step[]; // grows in place: steps[i].step === i
  used: { thinking: number; answer: number }; // the transition is not counted
  text: { thinking: string; answer: string };
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
    steps: [],
    used: { thinking: 0, answer: 0 },
    text: { thinking: '', answer: '' },
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
      run.steps.push(event);
      if (event.phase !== 'transition') {
        run.used[event.phase] += 1;
        run.text[event.phase] += event.text;
      }
      break;
    case 'phase_ended':
      run.ended[event.phase] = { ...event, at: run.steps.length };
      run.text[event.phase] += event.text;
      break;
    case 'run_finished':
    case 'run_cancelled':
    case 'run_failed':
      run.status = event.type === 'run_finished' ? 'finished' : event.type === 'run_cancelled' ? 'cancelled' : 'failed';
      run.timing = event.timing ?? run.timing;
      run.error = event.type === 'run_failed' ? event.error : null;
      break;
  }
  return true;
}

/** What the run is doing, for the status line. */
export type Doing = 'queued' | 'reading' | 'thinking' | 'answering' | 'over';

export function doing(run: RunState): Doing {
  if (isOver(run.status)) return 'over';
  if (run.status === 'queued' || run.status === 'unknown') return 'queued';
  if (!run.prefilled) return 'reading';
  const answering = run.ended.thinking !== null || run.spec?.T_e === 0;
  return answering ? 'answering' : 'thinking';
}
