/** What answer tokens are tinted by. */

import { type Metric, type MetricName, METRICS, TINTS } from '../core/metrics.ts';
import { keep, kept } from './kept.ts';

class Tints {
  name = $state<MetricName>(kept('tint', TINTS, 'probability'));

  get metric(): Metric {
    return METRICS[this.name];
  }

  choose(name: MetricName): void {
    this.name = name;
    keep('tint', name);
  }
}

export const tints = new Tints();
