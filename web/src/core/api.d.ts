// Made by `python web/openapi.py` from the server's OpenAPI document: change the types of the server.

/** The ids of runs that came from a file. */
export interface Adopted {
  ids: string[];
}

/** A run that is not over. */
export interface Ahead {
  id: string;
  model: string;
  status: 'queued' | 'running' | 'paused';
  position: number | null;
  eta_s: number | null;
  unread: number;
  strategy: string;
  user: string;
}

/** A run's status when it was asked for something; its events say when that is done. */
export interface Answer {
  id: string;
  status: string;
}

/** How answer tokens are drawn; filters apply top-k, then top-p, then min-p. */
export interface AnswerSampling {
  /** of the answer; null = the run's */
  temperature?: number | null;
  /** keep the likeliest tokens up to this probability */
  top_p?: number;
  /** keep this many likeliest tokens; 0 = all */
  top_k?: number;
  /** keep tokens of at least this share of the likeliest */
  min_p?: number;
}

/** A mixture as a fork takes it, and the model that is to measure it. */
export interface Asked {
  model?: string | null;
  mixture: Edit;
}

/** A candidate and its probability in the whole vocabulary. */
export interface Believed {
  id: number;
  text: string;
  probability: number;
}

/** All models, and the name of the one that was meant. */
export interface Chosen {
  default: string;
  models: Model[];
  queue: Ahead[];
  model: string;
}

/** A text's tokens. */
export interface Counted {
  tokens: TokenText[];
  count: number;
}

/** The id of a new run. */
export interface Created {
  id: string;
}

/** A mixture by hand: what a fork feeds at its step in place of the strategy's choice. */
export interface Edit {
  ids: number[];
  /** sum to 1 */
  weights: number[];
  combine?: 'sum' | 'max' | 'slerp';
}

/** What ran a run; the fingerprint is the key to making it again. */
export interface EngineRecord {
  name: string;
  model: string;
  device: string;
  dtype: string;
  vocab: number;
  fingerprint: string;
}

/** What runs can be filtered by, and how many have it. */
export interface Facet {
  name: string;
  count: number;
}

/** All facets, each a bounded list. */
export interface Facets {
  strategies: Facet[];
  models: Facet[];
  statuses: Facet[];
  tags: Facet[];
}

/** The first run of a family, and all runs branched from it, parents first. */
export interface Family {
  root: string;
  runs: Relative[];
}

/** A candidate and its weight in the mixture. */
export interface Fed {
  id: number;
  text: string;
  weight: number;
}

/** What was fed beyond the 64 heaviest. */
export interface FedRest {
  count: number;
  weight: number;
}

/** Where a run was branched from: it begins with that run's steps before `step`. */
export interface Fork {
  /** the parent */
  run: string;
  /** the first step of its own */
  step: number;
  /** fed at that step; null = what the strategy chooses */
  mixture?: Edit | null;
}

/** How answer tokens are drawn; filters apply top-k, then top-p, then min-p. */
export interface FrozenAnswerSampling {
  /** of the answer; null = the run's */
  temperature: number | null;
  /** keep the likeliest tokens up to this probability */
  top_p: number;
  /** keep this many likeliest tokens; 0 = all */
  top_k: number;
  /** keep tokens of at least this share of the likeliest */
  min_p: number;
}

/** A mixture by hand: what a fork feeds at its step in place of the strategy's choice. */
export interface FrozenEdit {
  ids: number[];
  /** sum to 1 */
  weights: number[];
  combine: 'sum' | 'max' | 'slerp';
}

/** Where a run was branched from: it begins with that run's steps before `step`. */
export interface FrozenFork {
  /** the parent */
  run: string;
  /** the first step of its own */
  step: number;
  /** fed at that step; null = what the strategy chooses */
  mixture: FrozenEdit | null;
}

/** Everything that a run's tokens depend on, beside the machine. */
export interface FrozenRunSpec {
  /** a loaded model; null = the server's own */
  model: string | null;
  /** system prompt; empty sends none */
  system: string;
  /** user prompt */
  user: string;
  strategy: {
    name: string;
    [name: string]: unknown;
  };
  /** most thinking steps (phase 1); left out, 50, or T_total if that is less */
  T_e: number;
  /** most steps of both phases together */
  T_total: number;
  /** of the distribution; 0 = greedy */
  temperature: number;
  answer: FrozenAnswerSampling;
  /** an end token this likely ends thinking; null = never */
  end_probability: number | null;
  /** text forced after thinking; null = the strategy's */
  transition: string | null;
  /** of every random number; null = a fresh one */
  seed: number;
  /** the run and step this one was branched from */
  fork: FrozenFork | null;
}

export interface HTTPValidationError {
  detail?: ValidationError[];
}

/** That the server lives. */
export interface Health {
  status: 'ok';
  version: string;
}

/** Runs to delete or restore together. */
export interface Ids {
  ids: string[];
}

/** What `PATCH /api/runs/{id}` sets; a field left out stays. */
export interface Label {
  name?: string | null;
  tags?: string[] | null;
}

/** A run's name and tags. */
export interface Labelled {
  name: string | null;
  tags: string[];
}

/** The cache of a paused run was given up: it will go on by replay. */
export interface LaneReleased {
  run: string;
  seq: number;
  type: 'lane_released';
}

/** Which model is to be loaded, and with weights of how many bits; null takes what the server was started with. */
export interface Load {
  model: string;
  quantize?: 'int8' | 'int4' | null;
}

/** What a mixture is, before it is fed; no ratio where its length is not a finite number. */
export interface Measured {
  norm_ratio: number | null;
  nearest: Neighbour[];
}

/** A model at hand, on its way or loaded. */
export interface Model {
  name: string;
  about: string | null;
  status: 'available' | 'loading' | 'ready' | 'unloading' | 'failed';
  stage: string | null;
  done: number;
  total: number;
  error: string | null;
  info: ModelInfo | null;
  memory: number | null;
  cache: number | null;
  live: number;
  queued: number;
}

/** A loaded model, as measured. */
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

/** Which model is meant. */
export interface ModelName {
  model: string;
}

/** All models, and who waits for them. */
export interface Models {
  default: string;
  models: Model[];
  queue: Ahead[];
}

/** A token, and the cosine of the angle between its embedding and a mixed one. */
export interface Neighbour {
  id: number;
  text: string;
  cosine: number;
}

/** What came of a run; the answer is whole, and null while the run goes on. */
export interface Outcome {
  id: string;
  status: 'queued' | 'running' | 'paused' | 'finished' | 'cancelled' | 'failed';
  seed: number;
  steps: number;
  answer: string | null;
}

/** Thinking or the answer is over, and why. */
export interface PhaseEnded {
  run: string;
  seq: number;
  type: 'phase_ended';
  phase: 'thinking' | 'answer';
  ended_by: 'T_e' | 'T_total' | 'end_marker' | 'end_of_text' | 'strategy' | 'cancelled' | null;
  reason: string | null;
  steps: number;
  token: Believed | null;
  text: string;
}

/** How thinking or the answer went. */
export interface PhaseRecord {
  text: string;
  steps: number;
  ended_by: 'T_e' | 'T_total' | 'end_marker' | 'end_of_text' | 'strategy' | 'cancelled' | null;
  reason: string | null;
}

/** The prompt is read. */
export interface Prefilled {
  run: string;
  seq: number;
  type: 'prefilled';
  prefill_s: number;
}

/** The prompt as the template rendered it. */
export interface PromptRecord {
  text: string;
  token_ids: number[];
}

/** A prompt as the template renders it. */
export interface PromptText {
  text: string;
  token_ids: number[];
}

/** All runs that are not over. */
export interface Queue {
  runs: Ahead[];
}

/** A run among those that were branched from one another. */
export interface Relative {
  id: string;
  name: string | null;
  status: 'queued' | 'running' | 'paused' | 'finished' | 'cancelled' | 'failed';
  parent: string | null;
  step: number | null;
  edit: string | null;
  strategy: string;
  created_at: string;
  answer: string;
}

/** A prompt as the model gets it. */
export interface Rendered {
  tokens: TokenText[];
  count: number;
  context: number;
  prompt: PromptText;
}

/** How well a run that feeds recorded mixtures again agrees with the record. */
export interface Replay {
  steps: number;
  error: number | null;
  words: string;
  state: 'none' | 'rebuilt' | 'restarted' | 'new' | 'kept';
  state_words: string;
}

/** Recorded mixtures were fed again. */
export interface Replayed {
  steps: number;
  error: number | null;
  words: string;
  state: 'none' | 'rebuilt' | 'restarted' | 'new' | 'kept';
  state_words: string;
  run: string;
  seq: number;
  type: 'replayed';
}

/** The run is over: to its end, or stopped. */
export interface RunEnded {
  run: string;
  seq: number;
  type: 'run_finished' | 'run_cancelled';
  timing: Timing;
  error?: string;
}

export type RunEvent = RunQueued | RunStarted | Prefilled | StepMade | PhaseEnded | RunPaused | RunResumed | LaneReleased | Replayed | RunEnded | RunFailed;

/** The run is over, with what went wrong in words; no timing where its process died. */
export interface RunFailed {
  run: string;
  seq: number;
  type: 'run_failed';
  error: string;
  timing?: Timing;
}

/** The run waits; its cache is kept for `held_s` seconds. */
export interface RunPaused {
  run: string;
  seq: number;
  type: 'run_paused';
  step: number;
  held_s: number;
}

/** The first event: the frozen spec. */
export interface RunQueued {
  run: string;
  seq: number;
  type: 'run_queued';
  spec: FrozenRunSpec;
  created_at: string;
}

/** A whole run: `superpose run --json`, `GET /api/runs/{id}`, exports. */
export interface RunRecord {
  id: string;
  status: 'queued' | 'running' | 'paused' | 'finished' | 'cancelled' | 'failed';
  created_at: string;
  name: string | null;
  tags: string[];
  spec: FrozenRunSpec;
  engine: EngineRecord | null;
  prompt: PromptRecord | null;
  steps: StepRecord[];
  thinking: PhaseRecord;
  answer: PhaseRecord;
  text: string;
  timing: Timing;
  replay: Replay | null;
  error: string | null;
}

/** The run goes on, or waits for a lane to go on in. */
export interface RunResumed {
  run: string;
  seq: number;
  type: 'run_resumed';
  status: 'queued' | 'running';
}

/** A run as lists show it; long texts are cut. */
export interface RunRow {
  id: string;
  created_at: string;
  status: 'queued' | 'running' | 'paused' | 'finished' | 'cancelled' | 'failed';
  name: string | null;
  tags: string[];
  strategy: string;
  model: string | null;
  seed: number | null;
  steps: number;
  tokens_per_second: number | null;
  answer: string;
  user: string;
  error: string | null;
  parent: string | null;
  fork_step: number | null;
  imported: boolean;
  spec: {
    [name: string]: unknown;
  };
}

/** Everything that a run's tokens depend on, beside the machine. */
export interface RunSpec {
  /** a loaded model; null = the server's own */
  model?: string | null;
  /** system prompt; empty sends none */
  system?: string;
  /** user prompt */
  user: string;
  strategy?: {
    name: string;
  };
  /** most thinking steps (phase 1); left out, 50, or T_total if that is less */
  T_e?: number;
  /** most steps of both phases together */
  T_total?: number;
  /** of the distribution; 0 = greedy */
  temperature?: number;
  answer?: AnswerSampling;
  /** an end token this likely ends thinking; null = never */
  end_probability?: number | null;
  /** text forced after thinking; null = the strategy's */
  transition?: string | null;
  /** of every random number; null = a fresh one */
  seed?: number;
  /** the run and step this one was branched from */
  fork?: Fork | null;
}

/** A lane is free; the prompt is read from now on. */
export interface RunStarted {
  run: string;
  seq: number;
  type: 'run_started';
  prompt: PromptRecord | null;
  engine: EngineRecord | null;
  queue_s: number;
}

/** A page of a list; `next` is where the following one begins, `total` null where counting would be slow. */
export interface RunsPage {
  runs: RunRow[];
  next: string | null;
  total: number | null;
}

/** A run and its status. */
export interface Standing {
  id: string;
  status: 'queued' | 'running' | 'paused' | 'finished' | 'cancelled' | 'failed';
}

/** One forward pass. */
export interface StepMade {
  step: number;
  phase: 'thinking' | 'transition' | 'answer';
  kind: 'mixture' | 'sampled' | 'injected';
  token: Token;
  text: string;
  fed: Fed[];
  fed_rest?: FedRest;
  combine: 'sum' | 'max' | 'slerp';
  rescale?: 'mean_norm' | 'inv_l2' | 'expected_norm' | number;
  noise?: number;
  noise_seed?: number;
  drawn?: Believed;
  believed: Believed[];
  tail: number;
  entropy: number;
  entropy_raw: number;
  norm_ratio: number | null;
  reason: string | null;
  t_ms: number;
  run: string;
  seq: number;
  type: 'step';
}

/** One forward pass: what was believed, and what was fed. */
export interface StepRecord {
  step: number;
  phase: 'thinking' | 'transition' | 'answer';
  kind: 'mixture' | 'sampled' | 'injected';
  token: Token;
  text: string;
  fed: Fed[];
  fed_rest?: FedRest;
  combine: 'sum' | 'max' | 'slerp';
  rescale?: 'mean_norm' | 'inv_l2' | 'expected_norm' | number;
  noise?: number;
  noise_seed?: number;
  drawn?: Believed;
  believed: Believed[];
  tail: number;
  entropy: number;
  entropy_raw: number;
  norm_ratio: number | null;
  reason: string | null;
  t_ms: number;
}

/** A strategy as form, docs and command line tell it. */
export interface StrategyInfo {
  name: string;
  help: string;
  doc: string;
  transition: string;
  thinks: boolean;
  end_probability: number | null;
  paper: string | null;
  schema: {
    [name: string]: unknown;
  };
}

/** Seconds, and steps per second of decoding. */
export interface Timing {
  queue_s: number;
  prefill_s: number;
  decode_s: number;
  tokens_per_second: number;
}

/** The token that stands for a step; `probability` is null for a forced one outside the candidates. */
export interface Token {
  id: number;
  text: string;
  probability: number | null;
}

/** A token of the vocabulary. */
export interface TokenText {
  id: number;
  text: string;
}

/** Tokens that were found. */
export interface Tokens {
  tokens: TokenText[];
}

export interface ValidationError {
  loc: (string | number)[];
  msg: string;
  type: string;
  input?: unknown;
  ctx?: {
    [name: string]: unknown;
  };
}

/** How many single steps a paused run is to make. */
export interface Wanted {
  n?: number;
}

/** What a careful colleague would say of a spec before it is run. */
export interface Warnings {
  warnings: string[];
}

/** What `POST /api/tokenize` counts: one text, or the messages of a prompt. */
export interface Words {
  model?: string | null;
  text?: string | null;
  system?: string;
  user?: string | null;
}
