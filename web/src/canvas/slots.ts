/** Equal rhythm of pictures side by side: a step is as wide in all of them as its longest readout. */

import type { Step } from '../core/events.ts';
import type { Follower, Picture } from './picture.ts';

const MOST = 12; // characters

export class Slots {
  private readonly pictures = new Set<Picture>();
  private widths: number[] = []; // by step

  /** Keeps a picture in step with the others; the answer ends it. */
  join(picture: Picture): () => void {
    this.pictures.add(picture);
    const follower: Follower = {
      append: (steps) => this.fit(picture, steps),
      clear: () => {
        if ([...this.pictures].every(({ length }) => length === 0)) this.widths = [];
      },
    };
    const leave = picture.follow(follower);
    return () => {
      this.pictures.delete(picture);
      leave();
    };
  }

  private fit(picture: Picture, steps: readonly Step[]): void {
    for (const { step } of steps) {
      const element = picture.elements[step];
      if (!element?.classList.contains('col')) continue;
      const own = Math.min(MOST, element.firstElementChild?.textContent.length ?? 0);
      const before = this.widths[step] ?? 0;
      const width = Math.max(own, before);
      this.widths[step] = width;
      element.style.setProperty('--slot', String(width));
      if (width === before) continue;
      for (const other of this.pictures) other.elements[step]?.style.setProperty('--slot', String(width));
    }
  }
}
