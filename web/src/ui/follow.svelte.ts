/** Following the live end of the run: only while the reader is there, never against them. */

const NEAR = 32; // px from the end that count as being there

class Follow {
  on = $state(false);
  /** Steps that came since following ended. */
  fresh = $state(0);
  private last = 0;

  constructor() {
    window.addEventListener('scroll', () => this.scrolled(), { passive: true });
  }

  /** Goes to the end and stays there. */
  start(): void {
    this.on = true;
    this.fresh = 0;
    this.stick();
  }

  /** The reader looks at something: let them. */
  end(): void {
    this.on = false;
    this.fresh = 0;
  }

  /** Call after the page has grown by so many steps. */
  grown(steps: number): void {
    if (this.on) this.stick();
    else this.fresh = this.there() ? 0 : this.fresh + steps;
  }

  private there(): boolean {
    return this.below() <= NEAR;
  }

  /** How far the end of the run lies below the screen, in px: on a phone more of the page comes after it. */
  private below(): number {
    return (document.getElementById('main')?.getBoundingClientRect().bottom ?? 0) - window.innerHeight;
  }

  private stick(): void {
    const below = this.below();
    if (below > 0) window.scrollBy({ top: below, behavior: 'instant' });
    this.last = window.scrollY;
  }

  private scrolled(): void {
    const up = window.scrollY < this.last - 1;
    this.last = window.scrollY;
    if (up && !this.there()) this.on = false;
    else if (this.fresh > 0 && this.there()) this.start();
  }
}

export const follow = new Follow();
