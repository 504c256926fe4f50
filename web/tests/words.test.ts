import { expect, it } from 'vitest';
import type { Facts } from '../src/core/facts.ts';
import { statusWords } from '../src/ui/words.ts';

const over = {
  id: 'a', status: 'finished', doing: 'over', paused: null, whole: false, steps: 12, used: { thinking: 4, answer: 5 },
  timing: { queue_s: 0, prefill_s: 0.1, decode_s: 2, tokens_per_second: 6 },
} as unknown as Facts;

it('tells the forced steps of a run that is done, which no limit counts', () => {
  const text = (facts: Facts): string => statusWords(facts, 'open' as never, 'nothing' as never, null).text;
  expect(text(over)).toBe('done: 12 steps (3 forced) in 2.0 s, 6.0 tokens/s');
  expect(text({ ...over, timing: null })).toBe('done: 12 steps (3 forced)');
  expect(text({ ...over, steps: 9 })).toBe('done: 9 steps in 2.0 s, 6.0 tokens/s');
});
