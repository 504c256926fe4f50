/** A step's fed and believed columns, each closed by the rest of the vocabulary. */

import type { Step } from './events.ts';

export interface Row {
  id: number;
  text: string;
  fed: number; // 0 = not fed
  believed: number | null; // null = somewhere in the rest
}

export interface Detail {
  rows: Row[];
  rest: { count: number | null; fed: number; believed: number };
}

/**
 * Fed candidates first, heaviest first, then what was believed and not fed. A drawn or forced token whose
 * probability is known although it is not among the likeliest is taken out of the rest, so that both sums close.
 */
export function detail(step: Step, vocab: number | null): Detail {
  const known = new Map(step.believed.map(({ id, probability }) => [id, probability]));
  let believedRest = step.tail;
  if (step.token.probability !== null && !known.has(step.token.id)) {
    known.set(step.token.id, step.token.probability);
    believedRest = Math.max(0, believedRest - step.token.probability);
  }
  const rows: Row[] = step.fed.map(({ id, text, weight }) => ({ id, text, fed: weight, believed: known.get(id) ?? null }));
  const fed = new Set(step.fed.map(({ id }) => id));
  for (const { id, text, probability } of step.believed) {
    if (!fed.has(id)) rows.push({ id, text, fed: 0, believed: probability });
  }
  const count = vocab === null ? null : Math.max(0, vocab - rows.length);
  return { rows, rest: { count, fed: step.fed_rest?.weight ?? 0, believed: believedRest } };
}
