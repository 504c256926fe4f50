/** Light, dark, or as the system is; remembered. */

const CHOICES = ['system', 'light', 'dark'] as const;
export type Choice = (typeof CHOICES)[number];
const KEY = 'superpose.theme';

class Theme {
  choice = $state<Choice>('system');
  /** What is shown, for canvases: light or dark, and whether the colours are the reader's own. */
  shown = $state('');
  private readonly system = window.matchMedia('(prefers-color-scheme: dark)');
  private readonly forced = window.matchMedia('(forced-colors: active)');

  constructor() {
    const saved = localStorage.getItem(KEY);
    this.choice = CHOICES.find((choice) => choice === saved) ?? 'system';
    for (const query of [this.system, this.forced]) query.addEventListener('change', () => this.apply());
    this.apply();
  }

  /** The next of system, light, dark. */
  turn(): void {
    this.choice = CHOICES[(CHOICES.indexOf(this.choice) + 1) % CHOICES.length] ?? 'system';
    localStorage.setItem(KEY, this.choice);
    this.apply();
  }

  private apply(): void {
    const dark = this.choice === 'dark' || (this.choice === 'system' && this.system.matches);
    const shade = (document.documentElement.dataset['theme'] = dark ? 'dark' : 'light');
    this.shown = this.forced.matches ? `${shade}, forced` : shade;
  }
}

export const theme = new Theme();
