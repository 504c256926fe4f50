/** Walking over the steps by keys: one step on, one row down, to the next unsure one. */

import type { Step } from '../core/events.ts';
import { type Act, UNSURE } from '../core/keymap.ts';
import type { Picture } from './picture.ts';

/** The step that a key leads to from `from`; null where it leads nowhere. */
export function destination(act: Act, from: number, picture: Picture): number | null {
  const last = picture.length - 1;
  const inside = (step: number): number | null => (step >= 0 && step <= last && step !== from ? step : null);
  switch (act) {
    case 'next':
      return inside(from + 1);
    case 'previous':
      return inside(from - 1);
    case 'first':
    case 'last':
      return edge(act, from, picture);
    case 'down':
      return row(from, 1, picture);
    case 'up':
      return row(from, -1, picture);
    case 'nextUnsure':
      return unsure(from, 1, picture);
    case 'previousUnsure':
      return unsure(from, -1, picture);
    case 'nextSwitch':
      return turn(from, 1, picture);
    case 'previousSwitch':
      return turn(from, -1, picture);
    default:
      return null;
  }
}

/** The next step whose kind is not that of the step before it, going one way. */
function turn(from: number, direction: 1 | -1, picture: Picture): number | null {
  for (let i = from + direction; i > 0 && i < picture.length; i += direction) {
    if (picture.step(i)?.kind !== picture.step(i - 1)?.kind) return i;
  }
  return null;
}

/** The first or last step of the stream that a step is in. */
function edge(act: 'first' | 'last', from: number, picture: Picture): number | null {
  const element = picture.elements[from];
  const root = element && picture.streamOf(element)?.root;
  const steps = root?.querySelectorAll<HTMLElement>('[data-step]');
  const found = act === 'first' ? steps?.[0] : steps?.[steps.length - 1];
  return found ? Number(found.dataset['step']) : null;
}

function isUnsure(step: Step | null): boolean {
  return step !== null && step.kind !== 'injected' && (step.believed[0]?.probability ?? 1) < UNSURE;
}

function unsure(from: number, direction: 1 | -1, picture: Picture): number | null {
  for (let i = from + direction; i >= 0 && i < picture.length; i += direction) {
    if (isUnsure(picture.step(i))) return i;
  }
  return null;
}

/** The step of the row above or below that lies nearest. */
function row(from: number, direction: 1 | -1, picture: Picture): number | null {
  const here = picture.elements[from]?.getBoundingClientRect();
  if (!here) return null;
  const middle = here.left + here.width / 2;
  let best: number | null = null;
  let nearest = Infinity;
  let top: number | null = null;
  for (let i = from + direction; i >= 0 && i < picture.length; i += direction) {
    const box = picture.elements[i]?.getBoundingClientRect();
    if (!box || Math.abs(box.top - here.top) < here.height / 2) continue;
    if (top !== null && Math.abs(box.top - top) > box.height / 2) break;
    top ??= box.top;
    const distance = Math.abs(box.left + box.width / 2 - middle);
    if (distance < nearest) [best, nearest] = [i, distance];
  }
  return best;
}
