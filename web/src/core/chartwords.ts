/** What the cursor of a chart is on, in words. */

import type { Step } from './events.ts';
import { three } from './format.ts';
import { glyphs } from './glyphs.ts';
import type { Row, Shade } from './heat.ts';
import type { Metric } from './metrics.ts';

/** "step 14 · mixture · ␣break · H 1.300 nat". */
export function stepWords(step: Step, metric: Metric | null): string {
  const words = `step ${step.step} · ${step.kind} · ${glyphs(step.token.text)}`;
  if (!metric) return words;
  const value = metric.of(step);
  return `${words} · ${value === null ? `${metric.sign} not known` : metric.says(value)}`;
}

/** "step 14 · rank 2 · ␣think · fed 0.330". */
export function heatWords(
  { step, row, value, text }: { step: number; row: Row; value: number | null; text: string | null },
  shade: Shade,
): string {
  const words = [`step ${step}`];
  if ('rank' in row) words.push(`rank ${row.rank}`);
  if (text !== null) words.push(glyphs(text));
  words.push(value !== null ? `${shade} ${three(value)}` : shade === 'fed' ? 'not fed' : 'not among the likeliest');
  return words.join(' · ');
}
