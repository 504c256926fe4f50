/** The timeline as a table. */

import type { Step } from '../core/events.ts';
import { three } from '../core/format.ts';
import { glyphs } from '../core/glyphs.ts';
import { el } from './dom.ts';
import type { Follower } from './picture.ts';

const HEADS = ['step', 'kind', 'token', 'fed', 'believed', 'entropy', 'ms'];

export class StepTable implements Follower {
  readonly root = el('table', 'steps');
  private readonly body = el('tbody');

  constructor() {
    const row = el('tr');
    for (const head of HEADS) {
      const cell = el('th', '', head);
      cell.scope = 'col';
      row.append(cell);
    }
    const head = el('thead');
    head.append(row);
    this.root.append(el('caption', 'sr', 'Every step: what was fed, what was believed, how unsure it was'), head, this.body);
  }

  append(steps: readonly Step[]): void {
    this.body.append(
      ...steps.map((step) => {
        const row = el('tr', step.kind);
        row.dataset['step'] = String(step.step);
        const weight = step.fed.find(({ id }) => id === step.token.id)?.weight;
        const { probability } = step.token;
        row.append(
          el('td', '', String(step.step)),
          el('td', '', step.kind),
          el('td', 'name', glyphs(step.token.text)),
          el('td', '', weight === undefined ? '·' : three(weight)),
          el('td', '', probability === null ? '·' : three(probability)),
          el('td', '', step.entropy.toFixed(3)),
          el('td', '', step.t_ms.toFixed(1)),
        );
        return row;
      }),
    );
  }

  clear(): void {
    this.body.replaceChildren();
  }
}
