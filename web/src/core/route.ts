/** The address of the page: screen; run, step and view of the Lab; strategy. */

import { LINES } from './metrics.ts';

export const VIEWS = ['stack', 'ladder', 'text'] as const;
export type View = (typeof VIEWS)[number];

/** What the chart under a run can show: a line of one number, or the heat map of all candidates. */
export const CHARTS = [...LINES, 'heat'] as const;
export type Chart = (typeof CHARTS)[number];

export interface Route {
  run: string | null;
  step: number | null;
  view: View | null;
  chart?: Chart | null; // null or none: the entropy, or as it is
}

export function isView(value: unknown): value is View {
  return VIEWS.some((view) => view === value);
}

export function parseRoute(url: URL): Route {
  const match = /^\/run\/([^/]+)\/?$/.exec(url.pathname);
  const step = url.searchParams.get('step');
  const view = url.searchParams.get('view');
  const chart = url.searchParams.get('chart');
  return {
    run: match?.[1] ? decoded(match[1]) : null,
    step: step !== null && /^\d{1,9}$/.test(step) ? Number(step) : null,
    view: isView(view) ? view : null,
    chart: CHARTS.find((each) => each === chart) ?? null,
  };
}

/** The path and query of a route: `/run/<id>?step=14&view=stack&chart=latency`. */
export function hrefOf({ run, step, view, chart }: Route): string {
  if (run === null) return '/';
  const query = new URLSearchParams();
  if (step !== null) query.set('step', String(step));
  if (view !== null) query.set('view', view);
  if (chart) query.set('chart', chart);
  const search = query.toString();
  return `/run/${encodeURIComponent(run)}${search ? `?${search}` : ''}`;
}

/** The screens beside the Lab, by the first part of their path. */
export const SCREENS = ['compare', 'runs', 'models', 'strategies'] as const;

export type Screen =
  | { name: 'lab' | 'compare' | 'runs' | 'models' | 'missing' }
  | { name: 'strategies'; strategy: string | null };

export function parseScreen({ pathname }: URL): Screen {
  const [, first = '', second = ''] = pathname.split('/');
  const name = SCREENS.find((screen) => screen === first);
  if (!name) return { name: first === '' || first === 'run' ? 'lab' : 'missing' };
  if (name !== 'strategies') return { name };
  return { name, strategy: decoded(second) || null };
}

/** A part of a path as text; itself if it has a lone percent sign. */
function decoded(part: string): string {
  try {
    return decodeURIComponent(part);
  } catch {
    return part;
  }
}

/** The path of a strategy's page; null is the list. */
export function strategyHref(name: string | null): string {
  return name === null ? '/strategies' : `/strategies/${encodeURIComponent(name)}`;
}
