/** Which screen is shown, by the address; links that change it without loading the page anew. */

import { parseScreen, type Screen } from '../core/route.ts';

class Nav {
  screen = $state.raw<Screen>(parseScreen(new URL(location.href)));

  constructor() {
    window.addEventListener('popstate', () => this.read());
  }

  go(href: string): void {
    history.pushState(null, '', href);
    this.read();
  }

  /** Whether a click on a link is ours to follow: a new tab is theirs to open. */
  takes(event: MouseEvent): boolean {
    if (event.ctrlKey || event.metaKey || event.shiftKey || event.altKey || event.button !== 0) return false;
    event.preventDefault();
    return true;
  }

  private read(): void {
    this.screen = parseScreen(new URL(location.href));
  }
}

export const nav = new Nav();
