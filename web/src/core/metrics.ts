/** What can be measured of a step: for the lines of the timeline, the tint of answer tokens, the table. */

import { detail } from './detail.ts';
import type { Step } from './events.ts';
import { three } from './format.ts';
import { PROBABILITY_BOUNDS } from './scale.ts';

export interface Metric {
  title: string;
  unit: string;
  sign: string; // before its value and its bins
  of(step: Step): number | null; // null where it is not known
  says(value: number): string;
  least: number; // where its scale ends if no value shown is larger
  bounds: readonly [number, number, number, number]; // between the five tints, from the faint one on
  falling: boolean; // whether large values are the faint ones
}

const METRICS_BY_NAME = {
  entropy: {
    title: 'Entropy', unit: 'nats', sign: 'H', of: ({ entropy }) => entropy, says: (value) => `H ${three(value)} nat`,
    least: 0.5, bounds: [0.1, 0.5, 1, 2], falling: false,
  },
  probability: {
    title: 'Probability', unit: 'of the token', sign: 'p', of: ({ token }) => token.probability,
    says: (value) => `p ${three(value)}`, least: 1, bounds: PROBABILITY_BOUNDS, falling: true,
  },
  variation: {
    title: 'Total variation', unit: 'believed against fed', sign: 'TV', of: variation, says: (value) => `TV ${three(value)}`,
    least: 0.1, bounds: [0.1, 0.5, 0.8, 0.95], falling: false,
  },
  rank: {
    title: 'Rank', unit: 'of the token', sign: 'rank', of: rank, says: (value) => `rank ${value}`,
    least: 1, bounds: [2, 3, 5, 10], falling: false,
  },
  latency: {
    title: 'Latency', unit: 'ms', sign: 'ms', of: ({ t_ms }) => t_ms, says: (value) => `${value.toFixed(1)} ms`,
    least: 1, bounds: [10, 20, 50, 100], falling: false,
  },
} as const satisfies Record<string, Metric>;

export type MetricName = keyof typeof METRICS_BY_NAME;
export const METRICS: Readonly<Record<MetricName, Metric>> = METRICS_BY_NAME;

/** Those that have a line over the steps: a rank beyond the candidates is not known, so it has none. */
export const LINES = ['entropy', 'probability', 'variation', 'latency'] as const satisfies readonly MetricName[];
/** Those that answer tokens can be tinted by. */
export const TINTS = ['probability', 'entropy', 'rank', 'variation', 'latency'] as const satisfies readonly MetricName[];

/**
 * Total variation between believed and fed: half the sum of |believed - fed| over all ids; 1 - p for a drawn token.
 * Ids outside the candidates are one sum, whose belief (the tail) counts as fed nowhere but for `fed_rest`; a fed
 * token whose belief is not known, because it lies in that tail, counts as not believed. Above 1 only where a
 * weight is negative.
 */
export function variation(step: Step): number {
  const { rows, rest } = detail(step, null);
  const apart = rows.reduce((sum, { fed, believed }) => sum + Math.abs((believed ?? 0) - fed), 0);
  return (apart + Math.abs(rest.believed - rest.fed)) / 2;
}

/** The place of a step's token among the candidates, 1 for the likeliest; null where it is none of them. */
export function rank({ token, believed }: Step): number | null {
  const at = believed.findIndex(({ id }) => id === token.id);
  return at < 0 ? null : at + 1;
}

/** Tint 0 (faint) to 4 (strong) of a step; what is not known is strong. */
export function tintOf({ of, bounds, falling }: Metric, step: Step): number {
  const value = of(step);
  if (value === null) return bounds.length;
  const bin = bounds.findIndex((bound) => (falling ? value >= bound : value < bound));
  return bin < 0 ? bounds.length : bin;
}
