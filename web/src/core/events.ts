/** What the server says, as types: events of a run, strategies, models. The fixtures in tests/fixtures are the contract. */

export type Kind = 'mixture' | 'sampled' | 'injected';
export type Phase = 'thinking' | 'transition' | 'answer';
export type Status = 'queued' | 'running' | 'paused' | 'finished' | 'cancelled' | 'failed';

export interface Believed {
  id: number;
  text: string;
  probability: number;
}

export interface Fed {
  id: number;
  text: string;
  weight: number;
}

/** The token that stands for a step; the probability is null for a forced one outside the candidates. */
export interface Token {
  id: number;
  text: string;
  probability: number | null;
}

/** One forward pass: what was believed, and what was fed. */
export interface Step {
  step: number;
  phase: Phase;
  kind: Kind;
  token: Token;
  text: string; // readable text that this step completed; "" inside a UTF-8 character
  fed: Fed[]; // heaviest first; a weight may be negative
  fed_rest?: { count: number; weight: number };
  combine: 'sum' | 'max' | 'slerp';
  rescale?: string | number; // what was done to the length of the sum afterwards
  noise?: number; // gamma of the noise added at the end
  drawn?: Believed; // the token that was drawn, where it is not simply what was fed; in the answer it is the text
  believed: Believed[]; // likeliest first
  tail: number;
  entropy: number; // nats
  entropy_raw: number;
  norm_ratio: number | null;
  reason: string | null;
  t_ms: number;
}

/** Where a run was branched off, and what was fed there instead; one id of weight 1 is a forced token. */
export interface Fork {
  run: string;
  step: number;
  mixture: { ids: number[]; weights: number[]; combine: 'sum' | 'max' } | null;
}

export interface Strategy {
  name: string;
  [parameter: string]: unknown;
}

/** Where a run was branched off, and what was fed there instead; one id of weight 1 is a forced token. */
export interface Fork {
  run: string;
  step: number;
  mixture: { ids: number[]; weights: number[]; combine: 'sum' | 'max' } | null;
}

/** How a run whose past was fed again agrees with what was recorded. */
export interface Replay {
  steps: number;
  error: number | null; // null: there was nothing to compare
  words: string;
  state: 'rebuilt' | 'restarted' | 'none' | 'new' | 'kept'; // kept: its own, after a pause that outlived the cache
  state_words: string;
}

/** A run among those that were branched from one another. */
export interface Relative {
  id: string;
  name: string | null;
  status: Status;
  parent: string | null;
  step: number | null; // of the parent, where it branched
  edit: string | null;
  strategy: string;
  created_at: string;
  answer: string;
}

export interface Spec {
  model: string | null;
  system: string;
  user: string;
  strategy: Strategy;
  T_e: number;
  T_total: number;
  temperature: number;
  answer: { temperature: number | null; top_p: number; top_k: number; min_p: number };
  end_probability: number | null;
  transition: string | null;
  seed: number;
  fork: Fork | null;
}

export interface Engine {
  name: string;
  model: string;
  device: string;
  dtype: string;
  vocab: number;
  fingerprint: string;
}

export interface Timing {
  queue_s: number;
  prefill_s: number;
  decode_s: number;
  tokens_per_second: number;
}

export interface Prompt {
  text: string;
  token_ids: number[];
}

export interface PhaseEnded {
  phase: 'thinking' | 'answer';
  ended_by: string;
  reason: string;
  steps: number;
  token: Believed | null;
  text: string;
}

interface Numbered {
  run: string;
  seq: number;
}

export type RunEvent = Numbered &
  (
    | { type: 'run_queued'; spec: Spec; created_at: string }
    | { type: 'run_started'; prompt: Prompt; engine: Engine; queue_s: number }
    | { type: 'prefilled'; prefill_s: number }
    | ({ type: 'step' } & Step)
    | ({ type: 'phase_ended' } & PhaseEnded)
    | { type: 'run_paused'; step: number; held_s: number }
    | { type: 'run_resumed'; status: 'queued' | 'running' }
    | { type: 'lane_released' }
    | ({ type: 'replayed' } & Replay)
    | { type: 'run_finished' | 'run_cancelled'; timing: Timing }
    | { type: 'run_failed'; error: string; timing?: Timing }
  );

export interface StrategyInfo {
  name: string;
  help: string;
  doc: string;
  transition: string;
  thinks: boolean; // false: rules the whole generation, without a phase of its own for thinking
  end_probability: number | null; // of a run that names none
  paper: string | null; // arXiv id
  schema: { properties?: Record<string, Property> };
}

/** The part of JSON Schema that pydantic writes for a strategy's field. */
export interface Property {
  type?: string;
  title?: string;
  description?: string;
  default?: unknown;
  enum?: unknown[];
  const?: unknown;
  anyOf?: Property[];
  minimum?: number;
  maximum?: number;
  exclusiveMinimum?: number;
  exclusiveMaximum?: number;
}

export interface ModelInfo {
  engine: string;
  model: string;
  device: string;
  dtype: string;
  vocab: number;
  context: number;
  max_lanes: number;
  parameters: number | null;
  invariance: string;
  fingerprint: string;
  checks: string[];
}

export interface Model {
  name: string;
  about: string | null;
  status: 'available' | 'loading' | 'ready' | 'unloading' | 'failed';
  stage: string | null;
  done: number;
  total: number;
  error: string | null;
  info: ModelInfo | null;
  memory: number | null; // bytes: weights and cache
  cache: number | null; // bytes: keys and values of the live runs
  live: number;
  queued: number;
}

/** A run that is not over. */
export interface Ahead {
  id: string;
  model: string;
  status: 'queued' | 'running' | 'paused';
  position: number | null; // among the queued ones of its model, from 1
  eta_s: number | null; // until a queued run starts or a running one ends, at the latest
  strategy: string;
  user: string;
}

export interface Models {
  default: string;
  models: Model[];
  queue: Ahead[];
}
