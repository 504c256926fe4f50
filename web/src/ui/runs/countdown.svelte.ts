/** A time that runs out, and stands still while it is held. */

export class Countdown {
  running = $state(false);
  private left = 0;
  private since = 0;
  private timer = 0;

  constructor(
    private readonly span: number, // ms
    private readonly over: () => void,
  ) {}

  /** Begins with the whole span, also when it is under way. */
  start(): void {
    this.stop();
    this.running = true;
    this.left = this.span;
    this.go();
  }

  stop(): void {
    this.running = false;
    clearTimeout(this.timer);
    this.timer = 0;
  }

  hold(): void {
    if (!this.timer) return;
    clearTimeout(this.timer);
    this.timer = 0;
    this.left -= performance.now() - this.since;
  }

  go(): void {
    this.hold();
    this.since = performance.now();
    this.timer = window.setTimeout(() => {
      this.stop();
      this.over();
    }, this.left);
  }
}
