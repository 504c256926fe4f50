import './theme.css';
import './app.css';
import './canvas/stream.css';
import './canvas/answer.css';
import './canvas/card.css';
import './canvas/ghost.css';
import { mount } from 'svelte';
import type { RunEvent } from './core/events.ts';
import App from './ui/App.svelte';
import { comparison } from './ui/compare.svelte.ts';
import { lab } from './ui/lab.svelte.ts';

declare global {
  interface Window {
    /**
     * For the budget tests: gives events to the Lab, or to the panes of Compare in turn, as their streams do, and
     * draws them before it returns.
     */
    __superpose: { append(events: readonly RunEvent[]): void; compare(events: readonly (readonly RunEvent[])[]): void };
  }
}

const target = document.getElementById('app');
if (target) mount(App, { target });
window.__superpose = { append: (events) => lab.append(events), compare: (events) => comparison.append(events) };
