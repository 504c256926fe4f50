/** A growing series of numbers, some of them not known, and its shape at a given width. */

import type { Kind } from './events.ts';

export class Series {
  private values = new Float32Array(256);
  private kinds: Kind[] = [];
  /** Runs of equal kind: [from, to). */
  readonly runs: { kind: Kind; from: number; to: number }[] = [];

  get length(): number {
    return this.kinds.length;
  }

  /** The largest value of [from, to); 0 where none is known. */
  most(from: number, to: number): number {
    let most = 0;
    for (let i = from; i < to; i++) if (this.at(i) > most) most = this.at(i);
    return most;
  }

  push(value: number | null, kind: Kind): void {
    if (this.length === this.values.length) {
      const wider = new Float32Array(this.values.length * 2);
      wider.set(this.values);
      this.values = wider;
    }
    this.values[this.length] = value ?? NaN;
    this.kinds.push(kind);
    const last = this.runs.at(-1);
    if (last?.kind === kind) last.to = this.length;
    else this.runs.push({ kind, from: this.length - 1, to: this.length });
  }

  /** NaN where it is not known. */
  at(index: number): number {
    return this.values[index] ?? NaN;
  }

  kind(index: number): Kind {
    return this.kinds[index] ?? 'injected';
  }

  /**
   * The points to draw of [from, to) on `pixels` pixels: all of them, or the smallest and the largest value of
   * every pixel, in their order, so that no spike is lost.
   */
  shape(from: number, to: number, pixels: number): { index: number; value: number }[] {
    const points: { index: number; value: number }[] = [];
    const size = to - from;
    if (size <= pixels * 2 || pixels < 1) {
      for (let i = from; i < to; i++) points.push({ index: i, value: this.at(i) });
      return points;
    }
    for (let pixel = 0; pixel < pixels; pixel++) {
      const start = from + Math.floor((pixel * size) / pixels);
      const end = from + Math.floor(((pixel + 1) * size) / pixels);
      let low = start;
      let high = start;
      for (let i = start; i < end; i++) {
        const value = this.at(i);
        if (Number.isNaN(value)) continue;
        if (!(this.at(low) <= value)) low = i; // so that any value takes the place of NaN
        if (!(this.at(high) >= value)) high = i;
      }
      for (const index of low < high ? [low, high] : low === high ? [low] : [high, low]) {
        points.push({ index, value: this.at(index) });
      }
    }
    return points;
  }
}

/** How many steps the axis spans: doubling while a run grows, so that it does not creep; exact once it is over. */
export function span(length: number, over: boolean): number {
  if (over) return Math.max(1, length);
  return 2 ** Math.max(6, Math.ceil(Math.log2(Math.max(1, length))));
}
