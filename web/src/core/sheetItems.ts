/** What stands in the rows of a picture: columns of mixtures, and chips of forced steps and reasons. */

import type { Step } from './events.ts';
import { bare } from './format.ts';
import { glyphs, hasGap, label, visible } from './glyphs.ts';
import { escaped, fit, lines, type Look, n, written } from './ink.ts';
import { type Metric, tintOf } from './metrics.ts';
import { stepName } from './names.ts';
import { isChip, shownText } from './readout.ts';
import type { View } from './route.ts';
import { type Cell, cells, dotOf, entropyShare, isOffTop, STACK } from './scale.ts';

export const HEAD = 20; // px above a column, for its readout
const WIDEST = 94; // a column
const NARROWEST = { stack: 22, ladder: 46 };
const RUNG = 13; // of a ladder
const SEPARATED = 3; // px, a cell of this height can spare one for the line above it
const CHIP = 92; // height of the transition

/** How steps are drawn, as the Lab has it. */
export interface Style {
  tint: Metric;
  view: View;
  glyphs: boolean;
}

export interface Item {
  step: Step | null;
  width: number;
  gap: number; // before it
  above: number; // px above its zero line
  below: number;
  draw(x: number, top: number): string;
}

interface Placed extends Cell {
  y: number; // under the top of the column
  shown: number; // px
}

/** A column as its stream draws it: cells as high as their weights, or rungs of one height. */
export function columnItem(step: Step, look: Look, { tint, view, glyphs: spaced }: Style, edited = false): Item {
  const ladder = view === 'ladder';
  const text = shownText(step);
  const name = isChip(step) ? visible(text) : `${spaced && hasGap(text) ? '␣' : ''}${label(text)}`;
  const width = Math.min(WIDEST, Math.max(NARROWEST[ladder ? 'ladder' : 'stack'], look.measure(name, 'rep') + 6));
  const drawn = cells(step);
  const sizeOf = ({ height }: Cell): number => (ladder ? RUNG + 1 : height);
  const sum = (part: readonly Cell[]): number => part.reduce((all, cell) => all + sizeOf(cell), 0);
  const positive = drawn.filter(({ weight }) => weight >= 0);
  const above = ladder ? sum(positive) : Math.max(STACK, sum(positive));
  const down = sum(drawn) - sum(positive);
  let [at, under] = [0, above];
  const placed = drawn.map((cell): Placed => {
    const y = cell.weight < 0 ? under : at;
    if (cell.weight < 0) under += sizeOf(cell);
    else at += sizeOf(cell);
    return { ...cell, y, shown: ladder ? RUNG : cell.height };
  });
  const sampled = step.kind === 'sampled';
  const noise = step.noise ? `+${bare(step.noise)}` : null;
  return {
    step, width, gap: hasGap(text) ? 7 : 1, above, below: down + (noise ? 20 : 6),
    draw: (x, top) => {
      const parts = [written(x + 3, top - 6, fit(look, name, width - 5, 'rep') + (isOffTop(step) ? '‸' : ''), 'rep', look.ink)];
      for (const { weight, bin, y, shown, labelled, text: candidate } of placed) {
        const fill = sampled ? look.tints[tintOf(tint, step)] : look.weights[bin];
        const striped = weight < 0 || candidate === null ? ` stroke="${look.edge}" stroke-dasharray="2 2" stroke-width=".5"` : '';
        const edge = sampled ? ` stroke="${look.tints[3]}"` : striped;
        parts.push(`<rect x="${n(x)}" y="${n(top + y)}" width="${n(width)}" height="${n(shown)}" fill="${fill}"${edge}/>`);
        if (!ladder && y > 0 && shown >= SEPARATED) parts.push(`<path d="M${n(x)} ${n(top + y + 0.5)}h${n(width)}" stroke="${look.bg}"/>`);
        const said = candidate === null ? (ladder ? '…' : null) : ladder || labelled ? label(candidate) : null;
        if (said !== null) parts.push(written(x + 3, top + y + (ladder ? 10 : 11), fit(look, said, width - 4, 'cell'), 'cell', look.ink));
      }
      if (down > 0) parts.push(`<path d="M${n(x)} ${n(top + above)}h${n(width)}" stroke="${look.ink}" stroke-width="2"/>`);
      const dot = dotOf(step);
      if (dot) {
        const y = ladder ? dot.row * (RUNG + 1) + RUNG / 2 : dot.top;
        parts.push(`<circle cx="${n(x + width - 4)}" cy="${n(top + (dot.below ? above : 0) + y)}" r="2.5" fill="${look.ink}" stroke="${look.bg}"/>`);
      }
      const tick = sampled ? look.sampled : look.mixture;
      const foot = top + above + down + 2;
      parts.push(`<rect x="${n(x)}" y="${n(foot)}" width="${n(width * entropyShare(step.entropy))}" height="3" rx="1.5" fill="${tick}"/>`);
      if (noise) parts.push(written(x, foot + 15, fit(look, noise, width, 'cell'), 'cell', look.mut));
      if (edited) parts.push(pin(x + width, top, look));
      return parts.join('');
    },
  };
}

/** The pin of a step that was edited by hand, its point at a place. */
export function pin(x: number, y: number, look: Look): string {
  const drop = `M${n(x)} ${n(y)}c-3 -4 -5 -5 -5 -8a5 5 0 0 1 10 0c0 3 -2 4 -5 8z`;
  return `<g class="pin"><title>edited by hand</title><path d="${drop}" fill="${look.ink}" stroke="${look.bg}"/><circle cx="${n(x)}" cy="${n(y - 8)}" r="1.7" fill="${look.bg}"/></g>`;
}

/** Forced steps side by side, in lines where they are many, over the reason why, in a dashed frame. */
export function chipItem(
  forced: readonly Step[],
  reason: string | null,
  widest: number,
  look: Look,
  spaced: boolean,
  edited: number | null = null,
): Item {
  const words = reason === null ? [] : lines(reason, 34);
  let [x, y, wide] = [0, 0, Math.max(0, ...words.map((line) => look.measure(line, 'small')))];
  const tokens = forced.map((step) => {
    const text = shownText(step);
    const name = fit(look, isChip(step) ? visible(text) : spaced ? glyphs(text) : label(text), widest - 34, 'rep');
    const width = look.measure(name, 'rep') + 10;
    if (x > 0 && x + width > widest - 24) [x, y] = [0, y + 25];
    const token = { step, name, width, x, y };
    x += width + 3;
    wide = Math.max(wide, x - 3);
    return token;
  });
  const height = Math.max(CHIP, 22 + (forced.length ? y + 24 : 0) + 15 * words.length);
  return {
    step: forced[0] ?? null, width: wide + 24, gap: 10, above: height - HEAD, below: 6,
    draw: (left, top) => {
      const parts = [`<rect x="${n(left)}" y="${n(top - HEAD)}" width="${n(wide + 24)}" height="${height}" rx="6" fill="none" stroke="${look.edge}" stroke-dasharray="4 3"/>`];
      for (const token of tokens) {
        const [at, base] = [left + 12 + token.x, top + 14 + token.y];
        parts.push(
          `<g data-step="${token.step.step}"><title>${escaped(stepName(token.step))}</title><rect x="${n(at)}" y="${n(base - 16)}" width="${n(token.width)}" height="22" rx="4" fill="none" stroke="${look.line}"/>`,
          written(at + 5, base, token.name, 'rep', look.ink),
          token.step.step === edited ? pin(at + token.width, base - 16, look) : '',
          '</g>',
        );
      }
      const first = top + 14 + (forced.length ? y + 24 : 0);
      words.forEach((line, at) => parts.push(written(left + 12, first + 15 * at, line, 'small', look.mut)));
      return parts.join('');
    },
  };
}
