/** Pictures of several runs as one: under each other, each with its caption. */

import { type Look, svgOf } from './ink.ts';
import { type Sheet, WIDTH } from './sheet.ts';

export interface Picture {
  svg: string;
  height: number;
}

/** One document with all sheets, lines between them. */
export function album(sheets: readonly Sheet[], look: Look): Picture {
  const parts: string[] = [];
  let y = 0;
  for (const { parts: own, height } of sheets) {
    if (y > 0) parts.push(`<path d="M0 ${y}h${WIDTH}" stroke="${look.edge}"/>`);
    parts.push(`<g transform="translate(0 ${y})">`, ...own, '</g>');
    y += height;
  }
  return { svg: svgOf(WIDTH, y, parts, look), height: y };
}

/** How high each may be, for all to be at most `most` high: what is low stays whole, the others share what it leaves. */
export function shares(heights: readonly number[], most: number): number[] {
  const rising = [...heights].sort((a, b) => a - b);
  let left = most;
  for (const [at, height] of rising.entries()) {
    const share = Math.floor(left / (rising.length - at));
    if (height > share) return heights.map((each) => Math.min(each, share));
    left -= height;
  }
  return [...heights];
}
