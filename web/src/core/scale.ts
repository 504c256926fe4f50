/** Numbers to bins, heights and cells: the arithmetic of the drawing. */

import type { Step } from './events.ts';

export const STACK = 72; // px, height of a column whose weights sum to 1
export const LABEL = 14; // px, a cell of this height has room for its token
export const MOST_CELLS = 10;

/** Lower bounds of the weight bins 2, 3, 4; bin 1 holds the rest. */
export const WEIGHT_BOUNDS = [0.1, 0.3, 0.6] as const;
/** Lower bounds of the probability bins 0, 1, 2, 3; bin 4 holds the rest. */
export const PROBABILITY_BOUNDS = [0.9, 0.5, 0.2, 0.05] as const;

/** Bin 1 (light) to 4 (heavy) of a weight's size. */
export function weightBin(weight: number): number {
  const size = Math.abs(weight);
  return 1 + WEIGHT_BOUNDS.filter((bound) => size >= bound).length;
}

/** Bin 0 (certain) to 4 (unlikely) of a probability. */
export function probabilityBin(probability: number): number {
  const bin = PROBABILITY_BOUNDS.findIndex((bound) => probability >= bound);
  return bin < 0 ? PROBABILITY_BOUNDS.length : bin;
}

/** A rectangle of a column. `height` is weight x STACK exactly; a negative weight hangs below the zero line. */
export interface Cell {
  text: string | null; // null: all candidates that have no cell of their own
  weight: number;
  height: number;
  bin: number;
  labelled: boolean;
}

/** The cells of a step, heaviest first, then what is left, so that a column's cells sum to its whole weight. */
export function cells(step: Step): Cell[] {
  const shown = step.fed.slice(0, MOST_CELLS);
  const drawn: Cell[] = shown.map(({ text, weight }) => {
    const height = Math.abs(weight) * STACK;
    return { text, weight, height, bin: weightBin(weight), labelled: height >= LABEL };
  });
  const rest =
    step.fed.slice(MOST_CELLS).reduce((sum, { weight }) => sum + weight, 0) + (step.fed_rest?.weight ?? 0);
  if (Math.abs(rest) > 1e-6) {
    drawn.push({ text: null, weight: rest, height: Math.abs(rest) * STACK, bin: weightBin(rest), labelled: false });
  }
  return drawn;
}

/** Where the token that sampling would have fed lies: px from the edge of its part of the column, and its row. */
export interface Dot {
  below: boolean; // under the zero line
  top: number;
  row: number;
}

/** null where no drawn token is the text, or the drawn token has no cell of its own. */
export function dotOf(step: Step): Dot | null {
  const shown = step.fed.slice(0, MOST_CELLS);
  const own = step.drawn && step.phase === 'answer' ? shown.findIndex(({ id }) => id === step.drawn?.id) : -1;
  const weight = shown[own]?.weight;
  if (weight === undefined) return null;
  const before = shown.slice(0, own).filter((other) => other.weight < 0 === weight < 0);
  const above = before.reduce((sum, other) => sum + Math.abs(other.weight), 0);
  return { below: weight < 0, top: (above + Math.abs(weight) / 2) * STACK, row: before.length };
}

/** How unsure a belief is, 0 to 1, for the tick under a column: full at 3 nats (twenty equal candidates). */
export function entropyShare(entropy: number): number {
  return Math.min(1, Math.max(0, entropy / 3));
}

/** e^H: how many equally likely tokens would be as uncertain. */
export function effectiveTokens(entropy: number): number {
  return Math.exp(entropy);
}

/** Whether a drawn token was not the most probable one. */
export function isOffTop(step: Step): boolean {
  const top = step.believed[0];
  return step.kind === 'sampled' && top !== undefined && top.id !== step.token.id;
}
