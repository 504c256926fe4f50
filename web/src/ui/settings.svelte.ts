/** Small choices of the reader; remembered. */

import { keep, kept } from './kept.ts';

const SWITCH = ['on', 'off'] as const;

class Settings {
  /** Whether single keys act outside the steps (WCAG 2.1.4: they can be switched off). */
  keys = $state(kept('single-keys', SWITCH, 'on') === 'on');
  /** Whether spaces, newlines and tabs are drawn in the streams. */
  glyphs = $state(kept('glyphs', SWITCH, 'off') === 'on');
  /** Whether the recorded example may still play by itself: once is enough. */
  example = kept('example', SWITCH, 'on') === 'on';

  setKeys(on: boolean): void {
    this.keys = on;
    keep('single-keys', on ? 'on' : 'off');
  }

  setGlyphs(on: boolean): void {
    this.glyphs = on;
    keep('glyphs', on ? 'on' : 'off');
  }

  exampleSeen(): void {
    this.example = false;
    keep('example', 'off');
  }
}

export const settings = new Settings();
