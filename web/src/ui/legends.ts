/** The bins of the two legends, from the bounds that the drawing uses. */

import type { View } from '../core/route.ts';
import { PROBABILITY_BOUNDS, WEIGHT_BOUNDS } from '../core/scale.ts';

export interface Bin {
  tint: string;
  says: string;
  after: string; // the bound that follows the swatch
}

const short = (bound: number): string => String(bound).replace(/^0\./, '.');
const [low, middle, high] = WEIGHT_BOUNDS;

/** The four bins of a fed weight. */
export const weightBins: Bin[] = [
  { tint: 'w1', says: `weight below ${short(low)}`, after: short(low) },
  { tint: 'w2', says: `weight ${short(low)} to ${short(middle)}`, after: short(middle) },
  { tint: 'w3', says: `weight ${short(middle)} to ${short(high)}`, after: short(high) },
  { tint: 'w4', says: `weight at least ${short(high)}`, after: '1' },
];

const five = (prefix: string, what: string): Bin[] => [
  ...PROBABILITY_BOUNDS.map((bound, bin) => bounded(prefix, what, bound, bin)),
  { tint: `${prefix}4`, says: `${what} below ${short(PROBABILITY_BOUNDS[3])}`, after: '0' },
];

function bounded(prefix: string, what: string, bound: number, bin: number): Bin {
  const above = PROBABILITY_BOUNDS[bin - 1];
  const says = above === undefined ? `at least ${short(bound)}` : `${short(bound)} to ${short(above)}`;
  return { tint: `${prefix}${bin}`, says: `${what} ${says}`, after: short(bound) };
}

/** The five bins of a drawn token's probability. */
export const probabilityBins = five('q', 'probability');
/** The five bins of the heaviest weight, for the Text view: what is sure blends in. */
export const certaintyBins = five('c', 'heaviest weight');

/** The views of columns, as their buttons say them. */
export const VIEW_OPTIONS: { value: View; text: string }[] = [
  { value: 'stack', text: 'Stack' },
  { value: 'ladder', text: 'Ladder' },
  { value: 'text', text: 'Text' },
];
