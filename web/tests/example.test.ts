import { readFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { type Examples, ofStrategy, times, unpack } from '../src/core/example.ts';
import { folded } from './fixtures.ts';

function logs(name: string): ReturnType<typeof unpack> {
  const path = new URL(`../src/examples/${name}.json`, import.meta.url);
  return unpack(JSON.parse(readFileSync(path, 'utf8')) as Examples);
}

describe.each(['lab', 'strategies'])('the recorded runs of %s.json', (name) => {
  it.each(logs(name).map((log) => [log[0]?.type === 'run_queued' ? log[0].spec.strategy.name : '?', log] as const))(
    'fold into a whole run: %s',
    (_, log) => {
      const run = folded(log);
      expect(run.status).toBe('finished');
      expect(run.steps.length).toBeGreaterThan(5);
      for (const [index, step] of run.steps.entries()) {
        expect(step.step).toBe(index);
        const known = step.believed.reduce((sum, { probability }) => sum + probability, step.tail);
        expect(known).toBeCloseTo(1, 2);
        expect(step.fed.length).toBeGreaterThan(0);
        if (step.combine === 'sum' && step.kind === 'mixture') {
          expect(step.fed.reduce((sum, { weight }) => sum + weight, step.fed_rest?.weight ?? 0)).toBeCloseTo(1, 2);
        }
        for (const { text } of [...step.fed, ...step.believed]) expect(text).not.toBe('');
      }
    },
  );
});

it('plays at the speed of the record', () => {
  const [log = []] = logs('lab');
  const clock = times(log);
  expect(clock).toHaveLength(log.length);
  expect([...clock].sort((a, b) => a - b)).toEqual(clock);
  const steps = log.flatMap((event) => (event.type === 'step' ? [event.t_ms] : []));
  const read = log.find((event) => event.type === 'prefilled');
  expect(clock.at(-1)).toBeCloseTo(steps.reduce((sum, ms) => sum + ms, 1000 * (read?.prefill_s ?? 0)), 6);
});

it('finds the run of a strategy', () => {
  expect(ofStrategy(logs('strategies'), 'selar')).not.toBeNull();
  expect(ofStrategy(logs('strategies'), 'of_my_own')).toBeNull();
});
