/** The recorded event logs that the Python tests use as well. */

import { readFileSync } from 'node:fs';
import type { RunEvent, Step } from '../src/core/events.ts';
import { apply, newRun, type RunState } from '../src/core/reducer.ts';

export function events(name: 'run' | 'nucleus' | 'sample'): RunEvent[] {
  // From web/, where npm runs the tests.
  const lines = readFileSync(`../tests/fixtures/${name}.jsonl`, 'utf8').trim().split('\n');
  return lines.map((line) => JSON.parse(line) as RunEvent);
}

export function folded(list: readonly RunEvent[]): RunState {
  const run = newRun('fixture');
  for (const event of list) apply(run, event);
  return run;
}

export function step(changes: Partial<Step> = {}): Step {
  return {
    step: 14, phase: 'thinking', kind: 'mixture', token: { id: 1, text: ' break', probability: 0.345 }, text: ' break',
    fed: [
      { id: 1, text: ' break', weight: 0.42 },
      { id: 2, text: ' think', weight: 0.33 },
      { id: 3, text: ' compute', weight: 0.15 },
      { id: 4, text: ' try', weight: 0.07 },
      { id: 5, text: ' do', weight: 0.03 },
    ],
    combine: 'sum', believed: [{ id: 1, text: ' break', probability: 0.345 }, { id: 2, text: ' think', probability: 0.273 }],
    tail: 0.382, entropy: 1.3, entropy_raw: 1.6, norm_ratio: 0.71, reason: null, t_ms: 16.2, ...changes,
  };
}
