/** What panels show of a run; made anew once a frame, never once a token. */

import { secondsLeft, speed } from './eta.ts';
import type { Engine, Prompt, Replay, Spec, Timing } from './events.ts';
import { type Doing, doing, type PhaseEnd, type RunState } from './reducer.ts';

export interface Facts {
  id: string;
  status: RunState['status'];
  doing: Doing;
  spec: Spec | null;
  engine: Engine | null;
  prompt: Prompt | null;
  paused: RunState['paused'];
  replay: Replay | null;
  regained: Replay | null;
  steps: number;
  whole: boolean; // the strategy rules the whole generation
  seen: RunState['seen'];
  used: RunState['used'];
  ended: { thinking: PhaseEnd | null; answer: PhaseEnd | null };
  timing: Timing | null;
  error: string | null;
  speed: number;
  left: number | null;
}

const PACE = 1000; // ms between two looks at speed and time left

/** Looks at one run after the other; speed and time left change once a second, so that they can be read. */
export class Glance {
  private last: Facts | null = null;
  private paced = 0;

  /** `thinks` is whether the run's strategy has a phase for thinking, where that is known. */
  of(run: RunState, now: number, thinks: boolean | undefined): Facts {
    const old = this.last?.id === run.id && this.last.steps <= run.steps.length ? this.last : null;
    const fresh = !old || now - this.paced >= PACE || old.doing !== doing(run) || old.speed === 0;
    if (fresh) this.paced = now;
    const { id, status, spec, engine, prompt, paused, replay, regained, timing, error } = run;
    this.last = {
      id, status, spec, engine, prompt, paused, replay, regained, timing, error,
      doing: doing(run),
      steps: run.steps.length,
      whole: run.whole || (run.steps.length === 0 && thinks === false),
      seen: { ...run.seen },
      used: { ...run.used },
      ended: { ...run.ended },
      speed: fresh ? speed(run) : old.speed,
      left: fresh ? secondsLeft(run) : old.left,
    };
    return this.last;
  }
}
