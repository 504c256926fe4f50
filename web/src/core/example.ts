/** The recorded runs that are shown as examples: files of benchmarks/examples.py, unpacked into events. */

import type { Believed, Fed, RunEvent } from './events.ts';

type Pair = [id: number, value: number];

interface Packed {
  type?: string;
  fed?: Pair[];
  believed?: Pair[];
  token?: Pair;
  drawn?: Pair;
  [field: string]: unknown;
}

export interface Examples {
  tokens: Record<string, string>;
  runs: Packed[][];
}

/** A run of this id is an example: it has no address and is not the server's. */
export const EXAMPLE = 'example';

/** What goes without saying. */
const COMMON = { type: 'step', phase: 'thinking', kind: 'mixture', combine: 'sum', reason: null, norm_ratio: null };

/** The event logs of a file, as the server would tell them. */
export function unpack({ tokens, runs }: Examples): RunEvent[][] {
  const textOf = (id: number): string => tokens[id] ?? '';
  const believed = ([id, probability]: Pair): Believed => ({ id, text: textOf(id), probability });
  const fed = ([id, weight]: Pair): Fed => ({ id, text: textOf(id), weight });
  return runs.map((events) => {
    let steps = 0;
    return events.map((event, seq) => {
      if (event.type) return { ...event, run: EXAMPLE, seq } as unknown as RunEvent;
      const { token = [-1, 0], drawn } = event;
      const step = {
        ...COMMON, text: textOf(token[0]), ...event, run: EXAMPLE, seq,
        step: steps++,
        fed: event.fed?.map(fed),
        believed: event.believed?.map(believed),
        token: believed(token),
        ...(drawn ? { drawn: believed(drawn) } : {}),
      };
      return step as unknown as RunEvent;
    });
  });
}

/** How long after the run's start each event came, in ms, as recorded. */
export function times(events: readonly RunEvent[]): number[] {
  let now = 0;
  return events.map((event) => {
    if (event.type === 'prefilled') now += event.prefill_s * 1000;
    if (event.type === 'step') now += event.t_ms;
    return now;
  });
}

/** The log of the run with this strategy; null where there is none. */
export function ofStrategy(logs: readonly RunEvent[][], name: string): RunEvent[] | null {
  return logs.find(([first]) => first?.type === 'run_queued' && first.spec.strategy.name === name) ?? null;
}
