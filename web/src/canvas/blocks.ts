/** A long row of elements, cut into blocks that the browser may skip while they are off the screen. */

import { el } from './dom.ts';

export class Blocks {
  private block: HTMLElement | null = null;
  private count = 0;

  /** A block is cut at the first line break that the layout makes after `soft` elements, else after `hard`. */
  constructor(
    private readonly root: HTMLElement,
    private readonly soft: number,
    private readonly hard: number,
  ) {}

  add(element: HTMLElement): void {
    if (this.block && this.count >= this.soft) {
      const last = this.block.lastElementChild;
      this.block.append(element);
      const wrapped = last instanceof HTMLElement && element.offsetTop > last.offsetTop + 4;
      if (wrapped || this.count >= this.hard) this.open().append(element);
      this.count += 1;
      return;
    }
    (this.block ?? this.open()).append(element);
    this.count += 1;
  }

  /** The next element begins a new line, or a new paragraph. */
  cut(end: 'line' | 'paragraph' | null): void {
    if (!end) return;
    if (end === 'paragraph') this.block?.classList.add('para');
    this.block = null;
  }

  clear(): void {
    this.root.replaceChildren();
    this.block = null;
    this.count = 0;
  }

  private open(): HTMLElement {
    this.block = el('div', 'block');
    this.count = 0;
    this.root.append(this.block);
    return this.block;
  }
}
