/** Which steps a chart spans: all, or those it was zoomed to. */

import { span } from './series.ts';

/** The steps [from, to), whole numbers. */
export interface Range {
  from: number;
  to: number;
}

const LEAST = 8; // steps that are left however far one zooms

/** All steps, with room for those to come. */
export function whole(length: number, over: boolean): Range {
  return { from: 0, to: span(length, over) };
}

/** `times` as many steps, with step `about` kept in its place; null where that is all of them. */
export function scaled(shown: Range, all: Range, times: number, about: number): Range | null {
  const size = shown.to - shown.from;
  const wanted = Math.max(LEAST, Math.round(size * times));
  const share = (about + 0.5 - shown.from) / size;
  return inside(about + 0.5 - share * wanted, wanted, all);
}

/** Moved by a share of its own width, no further than to the ends. */
export function moved(shown: Range, all: Range, share: number): Range | null {
  const size = shown.to - shown.from;
  return inside(shown.from + Math.sign(share) * Math.max(1, Math.round(Math.abs(share) * size)), size, all);
}

/** From one step to another, both included, in any order. */
export function between(one: number, other: number, all: Range): Range | null {
  const [first, last] = one < other ? [one, other] : [other, one];
  const size = Math.max(LEAST, last - first + 1);
  return inside((first + last + 1 - size) / 2, size, all);
}

function inside(from: number, size: number, all: Range): Range | null {
  if (size >= all.to - all.from) return null;
  const start = Math.min(Math.max(Math.round(from), all.from), all.to - size);
  return { from: start, to: start + size };
}
