/** The bins of the legends, from the bounds that the drawing uses. */

import { type MetricName, METRICS } from '../core/metrics.ts';
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

/** Five bins between four bounds, from the one that blends in; `falling`: that one holds the largest values. */
function five(prefix: string, what: string, bounds: readonly number[], falling: boolean): Bin[] {
  const says = (bin: number): string => {
    const [inner, outer] = [bounds[bin - 1], bounds[bin]].map((bound) => (bound === undefined ? null : short(bound)));
    if (inner === null) return falling ? `at least ${outer}` : `below ${outer}`;
    if (outer === null) return falling ? `below ${inner}` : `at least ${inner}`;
    return falling ? `${outer} to ${inner}` : `${inner} to ${outer}`;
  };
  return [0, 1, 2, 3, 4].map((bin) => {
    const after = bounds[bin];
    return { tint: `${prefix}${bin}`, says: `${what} ${says(bin)}`, after: after !== undefined ? short(after) : falling ? '0' : '' };
  });
}

const RANKS = ['1', '2', '3–4', '5–9', '10+'];
const rankBins: Bin[] = RANKS.map((ranks, bin) => ({
  tint: `q${bin}`,
  says: bin < 4 ? `rank ${ranks.replace('–', ' to ')}` : 'rank 10 or more, or not among the likeliest',
  after: ranks,
}));

/** What a token's tint says, by what it is tinted by. */
export function tintLegend(name: MetricName): { label: string; before: string; bins: Bin[] } {
  const { title, sign, bounds, falling } = METRICS[name];
  const start = name === 'rank' ? sign : `${sign} ${falling ? 1 : 0}`;
  return { label: title, before: start, bins: name === 'rank' ? rankBins : five('q', title.toLowerCase(), bounds, falling) };
}
/** The five bins of the heaviest weight, for the Text view: what is sure blends in. */
export const certaintyBins = five('c', 'heaviest weight', PROBABILITY_BOUNDS, true);

/** The views of columns, as their buttons say them. */
export const VIEW_OPTIONS: { value: View; text: string }[] = [
  { value: 'stack', text: 'Stack' },
  { value: 'ladder', text: 'Ladder' },
  { value: 'text', text: 'Text' },
];
