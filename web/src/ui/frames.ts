/** Drawing once a frame; on a hidden page, which has none, now and then for the tab's title. */

const FRAME = 8; // ms of drawing in one frame
const HIDDEN = 500; // ms

export class Frames {
  private frame = 0;

  /** `draw` takes about so many ms, and says whether there is more to draw. */
  constructor(private readonly draw: (budget: number) => boolean) {
    document.addEventListener('visibilitychange', () => {
      cancelAnimationFrame(this.frame);
      clearTimeout(this.frame);
      this.frame = 0;
      this.soon();
    });
  }

  /** Draws in the next frame. */
  soon(): void {
    if (this.frame) return;
    const go = (): void => {
      this.frame = 0;
      if (this.draw(FRAME)) this.soon();
    };
    this.frame = document.hidden ? window.setTimeout(go, HIDDEN) : requestAnimationFrame(go);
  }
}
