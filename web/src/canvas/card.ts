/** The card beside a step under the pointer or with the focus: keyed by the step, so a repaint cannot blink it. */

import { detail } from '../core/detail.ts';
import type { Step } from '../core/events.ts';
import { bare, three } from '../core/format.ts';
import { glyphs } from '../core/glyphs.ts';
import { effectiveTokens } from '../core/scale.ts';
import { el } from './dom.ts';

const IN = 120; // ms
const OUT = 250;
const ROWS = 6;
const MARGIN = 8; // px

export class Card {
  readonly root = el('div', 'card');
  private timer = 0;
  private shown: number | null = null;

  constructor() {
    this.root.setAttribute('role', 'tooltip');
    this.root.hidden = true;
    this.root.addEventListener('pointerenter', () => clearTimeout(this.timer));
    this.root.addEventListener('pointerleave', () => this.leave());
  }

  /** Shows a step's card beside a rectangle: after a moment, at once if one is open already. */
  enter(step: Step, anchor: DOMRect, vocab: number | null): void {
    clearTimeout(this.timer);
    if (this.shown === step.step) return;
    const show = (): void => this.show(step, anchor, vocab);
    if (this.shown !== null) show();
    else this.timer = window.setTimeout(show, IN);
  }

  /** Hides it after a moment. */
  leave(): void {
    clearTimeout(this.timer);
    this.timer = window.setTimeout(() => this.hide(), OUT);
  }

  hide(): void {
    clearTimeout(this.timer);
    this.shown = null;
    this.root.hidden = true;
  }

  private show(step: Step, anchor: DOMRect, vocab: number | null): void {
    this.shown = step.step;
    const head = el('div', 'card-head');
    head.append(el('b', '', glyphs(step.token.text)), el('span', '', `step ${step.step} · ${step.kind}`));
    const { rows, rest } = detail(step, vocab);
    const shown = rows.slice(0, ROWS);
    const fedRest = rest.fed + rows.slice(ROWS).reduce((sum, row) => sum + row.fed, 0);
    const believedRest = rest.believed + rows.slice(ROWS).reduce((sum, row) => sum + (row.believed ?? 0), 0);
    const table = el('div', 'card-rows');
    table.append(el('span'), el('span'), el('small', '', 'fed'), el('small', '', 'believed'));
    for (const row of shown) {
      const bar = el('span', step.kind === 'sampled' ? 'bar sampled' : 'bar');
      bar.style.setProperty('--share', String(Math.min(1, Math.abs(row.fed || (row.believed ?? 0)))));
      if (!row.fed) bar.classList.add('unfed');
      if (row.fed < 0) bar.classList.add('neg');
      table.append(
        el('span', 'name', glyphs(row.text)),
        bar,
        el('span', 'number', row.fed ? three(row.fed) : '0'),
        el('span', 'number', row.believed === null ? '·' : three(row.believed)),
      );
    }
    table.append(el('span', 'name mut', 'rest'), el('span'));
    table.append(el('span', 'number mut', fedRest ? three(fedRest) : '0'), el('span', 'number mut', three(believedRest)));
    const foot = el('div', 'card-foot', `H ${step.entropy.toFixed(2)} nat · e^H ${effectiveTokens(step.entropy).toFixed(1)}`);
    if (step.noise) foot.append(` · + noise ${bare(step.noise)}`);
    if (step.drawn) foot.append(` · drawn ${glyphs(step.drawn.text)} ${three(step.drawn.probability)}`);
    if (step.reason) foot.append(` · ${step.reason}`);
    this.root.replaceChildren(head, table, foot);
    this.root.hidden = false;
    this.place(anchor);
  }

  /** Above or below its token, never over it. */
  private place(anchor: DOMRect): void {
    const { width, height } = this.root.getBoundingClientRect();
    const within = this.root.closest('main')?.getBoundingClientRect() ?? document.body.getBoundingClientRect();
    const left = Math.max(within.left + MARGIN, Math.min(anchor.left, within.right - width - MARGIN));
    const below = anchor.bottom + MARGIN;
    const above = anchor.top - height - MARGIN;
    const fits = below + height < window.innerHeight;
    this.root.style.left = `${left}px`;
    this.root.style.top = `${fits || above < 0 ? below : above}px`;
  }
}

/** The rectangle of an element that lies under the pointer, for one that is wrapped over two lines. */
export function rectUnder(element: Element, x: number, y: number): DOMRect {
  const under = [...element.getClientRects()].find(
    (rect) => x >= rect.left - 1 && x <= rect.right + 1 && y >= rect.top - 1 && y <= rect.bottom + 1,
  );
  return under ?? element.getBoundingClientRect();
}
