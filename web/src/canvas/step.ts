/** One step as an element: a column of its mixture, or a token of running text. */

import type { Step } from '../core/events.ts';
import { bare } from '../core/format.ts';
import { glyphs, hasGap, label, visible } from '../core/glyphs.ts';
import { stepName } from '../core/names.ts';
import { isChip, isOpenPiece, shownText } from '../core/readout.ts';
import { cells, dotOf, entropyShare, isOffTop, probabilityBin, weightBin } from '../core/scale.ts';
import { el } from './dom.ts';

const UNLIKELY = 0.2; // a drawn token of less is underlined
const SEPARATED = 3; // px, a cell of this height can spare one for the line above it

function identify(element: HTMLElement, step: Step, ended: string | null): void {
  element.dataset['step'] = String(step.step);
  element.setAttribute('role', 'option');
  element.setAttribute('aria-label', stepName(step, ended));
  element.tabIndex = -1;
}

/**
 * A column: the readout on top, cells whose heights are the weights, those of negative ones under a zero line, a
 * tick as long as the entropy. The same element serves Stack, Ladder and Text; the style of its stream decides.
 * `noise` is what is written under it: the first of several alike says it for all.
 */
export function column(step: Step, noise: 'words' | 'mark' | null = null): HTMLElement {
  const text = shownText(step);
  const sampled = step.kind === 'sampled';
  const tint = sampled ? `q${probabilityBin(step.token.probability ?? 0)}` : '';
  const col = el('div', `col ${step.kind} ${tint}`);
  identify(col, step, null);
  const gap = hasGap(text);
  if (gap) col.classList.add('gap');
  if (isOffTop(step)) col.classList.add('off');
  if (isOpenPiece(step)) col.classList.add('piece');
  if (step.reason) col.classList.add('why');

  const heaviest = step.fed[0];
  const weight = heaviest?.weight ?? 0;
  const rep = el('b', `rep w${weightBin(weight)} c${probabilityBin(weight)}`);
  const blank = /^\s+$/.test(text);
  if (gap || blank) rep.append(space(gap ? ' ' : text.replace(/\n/g, '')));
  if (isChip(step)) rep.classList.add('chip');
  if (blank) rep.classList.add('blank');
  const name = isChip(step) ? visible(text) : label(text);
  rep.append(blank && !text.includes('\n') ? el('span', 'ws', name) : name);

  const stack = el('div', 'stk');
  const below: HTMLElement[] = [];
  let height = 0; // above the zero line
  for (const cell of cells(step)) {
    const bin = sampled ? tint : `w${cell.bin}`;
    const drawn = el('i', `cell ${bin}`, cell.text === null ? '…' : label(cell.text));
    drawn.style.height = `${cell.height}px`;
    if (cell.labelled) drawn.classList.add('lab');
    if (cell.height >= SEPARATED) drawn.classList.add('sep');
    if (cell.text === null) drawn.classList.add('rest');
    if (cell.weight < 0) {
      drawn.classList.add('neg');
      below.push(drawn);
    } else {
      stack.append(drawn);
      height += cell.height;
    }
  }
  const dot = dotOf(step);
  let point: HTMLElement | null = null;
  if (dot) {
    point = el('i', dot.row === 0 ? 'drawn top' : 'drawn'); // one that is no surprise is faint
    point.style.setProperty('--at', `${dot.top.toFixed(1)}px`);
    point.style.setProperty('--row', String(dot.row));
    if (!dot.below) stack.append(point);
  }
  const tick = el('div', 'ent');
  tick.style.width = `${(entropyShare(step.entropy) * 100).toFixed(1)}%`;
  col.append(rep, stack);
  if (below.length) {
    const under = el('div', 'stk under');
    under.append(...below);
    if (dot?.below && point) under.append(point);
    col.append(under);
    stack.style.height = `${height}px`; // what is negative below is above 1 here
    stack.classList.add('tall');
  }
  col.append(tick);
  if (noise) {
    const under = el('small', `noise ${noise}`);
    if (noise === 'words') under.append(el('span', '', `+ noise ${bare(step.noise ?? 0)}`));
    col.append(under);
  }
  return col;
}

/** A token of running text. A drawn one is tinted `tint` of 5, a mixture by its heaviest weight. */
export function token(step: Step, tint: number): HTMLElement {
  const text = shownText(step);
  const span = el('span', 't');
  identify(span, step, null);
  span.classList.add(step.kind);
  if (step.reason) span.classList.add('why');
  if (step.kind === 'mixture') span.classList.add(`c${probabilityBin(step.fed[0]?.weight ?? 0)}`);
  else if (step.kind === 'sampled') {
    span.classList.add(`q${tint}`);
    if ((step.token.probability ?? 0) < UNLIKELY) span.classList.add('lo');
    if (isOffTop(step)) span.classList.add('off');
  }
  if (isOpenPiece(step)) span.classList.add('piece');
  if (isChip(step)) span.classList.add('chip');
  for (const part of text.split(/(\n+|[ \t]+)/)) {
    if (part.startsWith('\n')) span.append(el('span', 'nl', '↵'.repeat(part.length)), '\n');
    else if (/^[ \t]/.test(part)) span.append(space(part));
    else if (part) span.append(visible(part));
  }
  return span;
}

/** White space that its stream can show as glyphs. */
function space(text: string): HTMLElement {
  const span = el('span', 'sp', text);
  if (text !== ' ') span.dataset['glyphs'] = glyphs(text);
  return span;
}

/** A forced token inside the transition chip. */
export function forced(step: Step, ended: string | null): HTMLElement {
  const text = shownText(step);
  const span = el('span', isChip(step) ? 'forced chip' : 'forced', isChip(step) ? visible(text) : label(text));
  identify(span, step, ended);
  if (isOpenPiece(step)) span.classList.add('piece');
  return span;
}
