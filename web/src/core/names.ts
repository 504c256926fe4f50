/** What a screen reader says of a step. */

import type { Step } from './events.ts';
import { percent } from './format.ts';
import { spoken } from './glyphs.ts';
import { isOffTop } from './scale.ts';

const NAMED = 2; // tokens of a mixture said by name

/** "step 14, mixture, break 42 percent, think 33 percent, 3 more". */
export function stepName(step: Step, ended: string | null = null): string {
  const said = [`step ${step.step}`, step.kind];
  if (step.kind === 'mixture') {
    const named = step.fed.slice(0, NAMED);
    said.push(...named.map(({ text, weight }) => `${spoken(text)} ${percent(weight)}`));
    const more = step.fed.length - named.length + (step.fed_rest?.count ?? 0);
    if (more > 0) said.push(`${more} more`);
  } else {
    const { text, probability } = step.token;
    said.push(probability === null ? spoken(text) : `${spoken(text)} ${percent(probability)}`);
  }
  const top = step.believed[0];
  if (isOffTop(step) && top) said.push(`likeliest was ${spoken(top.text)} ${percent(top.probability)}`);
  if (step.noise) said.push('with noise');
  if (step.reason) said.push(step.reason);
  if (ended) said.push(ended);
  return said.join(', ');
}
