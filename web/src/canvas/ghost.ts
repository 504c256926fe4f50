/** Marks of an edited step: its pin, and beside it the outline of what the parent fed there. */

import type { Step } from '../core/events.ts';
import { glyphs, label } from '../core/glyphs.ts';
import { shownText } from '../core/readout.ts';
import { cells } from '../core/scale.ts';
import { el } from './dom.ts';

/** Pins a step that was edited by hand; the room for the outline is taken at once, so that nothing moves later. */
export function pin(element: HTMLElement): void {
  if (element.classList.contains('edited')) return;
  element.classList.add('edited');
  const mark = el('i', 'pin');
  mark.title = 'edited by hand';
  element.append(mark);
}

/** Draws the parent's step at a pinned one: its stack beside a column, its token before running text. */
export function ghost(element: HTMLElement, parent: Step): void {
  const column = element.classList.contains('col');
  const made = column || parent.kind === 'mixture' ? stack(parent) : el('span', 'word', label(shownText(parent)));
  made.classList.add('ghost');
  made.title = `the parent fed ${glyphs(shownText(parent))} here`;
  made.setAttribute('aria-hidden', 'true');
  if (column) element.append(made);
  else element.before(made);
}

function stack(parent: Step): HTMLElement {
  const made = el('div');
  for (const cell of cells(parent)) {
    if (cell.weight < 0 || cell.height < 1) continue; // no room under the zero line, nor for less than a line
    const outline = el('i', '', cell.labelled && cell.text !== null ? label(cell.text) : null);
    outline.style.height = `${cell.height}px`;
    made.append(outline);
  }
  return made;
}
