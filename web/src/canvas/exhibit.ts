/** A finished run on a page of its own: drawn at once, with the card under pointer and keys. */

import type { RunState } from '../core/reducer.ts';
import { actOf } from '../core/keymap.ts';
import { Card, rectUnder } from './card.ts';
import { el, stepAt } from './dom.ts';
import { Picture } from './picture.ts';
import { destination } from './walk.ts';

export class Exhibit {
  readonly root = el('div', 'exhibit');
  private readonly picture = new Picture();
  private readonly card = new Card();

  /** `name` is what screen readers call it, as in "Thinking of the example". */
  constructor(
    private readonly run: RunState,
    name: string,
  ) {
    const { picture, root } = this;
    root.append(picture.thinking.root, picture.answer.root, this.card.root);
    root.addEventListener('pointerover', (event) => this.pointed(event));
    root.addEventListener('pointerleave', () => this.left());
    root.addEventListener('focusout', () => this.left());
    root.addEventListener('keydown', (event) => this.pressed(event));
    picture.paint(run, Infinity);
    picture.thinking.name(`${run.whole ? 'Generation' : 'Thinking'} of ${name}`);
    picture.answer.name(`Answer of ${name}`);
  }

  /** Shows the columns as stack, ladder or text. */
  view(name: string): void {
    this.picture.thinking.root.className = `thinking ${name}`;
  }

  /** Puts the card away: the page scrolls, or its reader presses Escape. */
  hide(): void {
    this.card.hide();
  }

  private show(step: number, anchor: DOMRect): void {
    const drawn = this.picture.step(step);
    if (drawn) this.card.enter(drawn, anchor, this.run.engine?.vocab ?? null);
  }

  private left(): void {
    this.picture.hover(null);
    this.card.leave();
  }

  private pointed({ target, clientX, clientY }: PointerEvent): void {
    const step = stepAt(target);
    const element = step === null ? null : this.picture.elements[step];
    if (!element || step === null) return this.left();
    this.picture.hover(step);
    this.show(step, rectUnder(element, clientX, clientY));
  }

  private pressed(event: KeyboardEvent): void {
    const from = stepAt(event.target);
    const act = actOf(event, 'steps');
    if (from === null || act === null) return;
    if (act === 'release') return this.hide();
    const to = act === 'pin' ? from : destination(act, from, this.picture);
    const element = to === null ? null : this.picture.elements[to];
    if (!element || to === null) return;
    event.preventDefault();
    this.picture.streamOf(element)?.tabTo(element);
    element.focus();
    this.show(to, element.getBoundingClientRect());
  }
}
