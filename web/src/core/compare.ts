/** Where two runs part: at the token that stands for a step, and before it at what was fed. */

import type { Fed, Step } from './events.ts';

/** Fed mixtures further apart than this are other mixtures. */
export const APART = 0.05;

/** A mixture as a step holds it: its heaviest ids, and how much more there was. */
export interface Mixed {
  fed: readonly Fed[];
  fed_rest?: { count: number; weight: number };
}

/**
 * The least and the most that the total variation of two fed mixtures can be: half the sum of |w_a − w_b| over all
 * ids. Both are the same where all ids are listed. Which ids share the unlisted rest (`fed_rest`) is not known: the
 * least lets it lie where the other mixture has its own, the most lets it meet nothing.
 */
export function variation(a: Mixed, b: Mixed): { least: number; most: number } {
  const others = new Map(b.fed.map(({ id, weight }) => [id, weight]));
  let common = 0;
  let onlyA = 0;
  for (const { id, weight } of a.fed) {
    const other = others.get(id);
    if (other === undefined) onlyA += Math.abs(weight);
    else common += Math.abs(weight - other);
    others.delete(id);
  }
  let onlyB = 0;
  for (const weight of others.values()) onlyB += Math.abs(weight);
  const restA = Math.abs(a.fed_rest?.weight ?? 0);
  const restB = Math.abs(b.fed_rest?.weight ?? 0);
  const uncovered = Math.max(0, onlyA - restB) + Math.max(0, onlyB - restA);
  const left = Math.abs(Math.max(0, restB - onlyA) - Math.max(0, restA - onlyB));
  return { least: (common + uncovered + left) / 2, most: (common + onlyA + onlyB + restA + restB) / 2 };
}

/** What is compared of a run: its steps so far, and whether more will come. */
export interface Course {
  steps: readonly Step[];
  over: boolean;
}

/** A run against its reference, step by step as they come; no step is looked at twice. */
export class Divergence {
  /** Steps that both have and that were compared. */
  compared = 0;
  /** First step whose token differs; `ended`: one of them has no such step, and is over. */
  readout: { step: number; ended: boolean } | null = null;
  /** First step before it with mixtures further apart than APART for certain. */
  fed: { step: number; variation: number } | null = null;
  /** First step before it with like weights that were fed in another way: what differs. */
  way: { step: number; what: 'combine' | 'rescale' | 'noise' } | null = null;

  /** Compares what is new; whether anything was found. */
  advance(reference: Course, other: Course): boolean {
    if (this.readout) return false;
    const before = [this.fed, this.way];
    const both = Math.min(reference.steps.length, other.steps.length);
    while (this.compared < both && !this.readout) {
      const [a, b] = [reference.steps[this.compared], other.steps[this.compared]];
      if (a && b) this.look(a, b);
    }
    if (!this.readout && reference.steps.length !== other.steps.length) {
      const shorter = reference.steps.length < other.steps.length ? reference : other;
      if (shorter.over) this.readout = { step: both, ended: true };
    }
    return this.readout !== null || this.fed !== before[0] || this.way !== before[1];
  }

  private look(a: Step, b: Step): void {
    const step = this.compared;
    if (a.token.id !== b.token.id) {
      this.readout = { step, ended: false };
      return;
    }
    this.compared += 1;
    const { least } = variation(a, b);
    if (least > APART) this.fed ??= { step, variation: least };
    else if (a.kind === 'mixture' && b.kind === 'mixture') {
      const what = (['combine', 'rescale', 'noise'] as const).find((each) => a[each] !== b[each]);
      if (what) this.way ??= { step, what };
    }
  }
}
