/** Light, dark, or as the system is; remembered. */

const CHOICES = ['system', 'light', 'dark'] as const;
export type Choice = (typeof CHOICES)[number];
const KEY = 'superpose.theme';

class Theme {
  choice = $state<Choice>('system');
  /** What is shown; counts up with every change, for canvases. */
  shown = $state<'light' | 'dark'>('light');
  private readonly system = window.matchMedia('(prefers-color-scheme: dark)');

  constructor() {
    const saved = localStorage.getItem(KEY);
    this.choice = CHOICES.find((choice) => choice === saved) ?? 'system';
    this.system.addEventListener('change', () => this.apply());
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
    this.shown = dark ? 'dark' : 'light';
    document.documentElement.dataset['theme'] = this.shown;
  }
}

export const theme = new Theme();
