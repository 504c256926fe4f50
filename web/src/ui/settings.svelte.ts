/** Small choices of the reader; remembered. */

const KEY = 'superpose.single-keys';

class Settings {
  /** Whether single keys act outside the steps (WCAG 2.1.4: they can be switched off). */
  keys = $state(localStorage.getItem(KEY) !== 'off');

  setKeys(on: boolean): void {
    this.keys = on;
    localStorage.setItem(KEY, on ? 'on' : 'off');
  }
}

export const settings = new Settings();
