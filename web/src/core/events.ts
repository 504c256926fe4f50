/** What the server says, as types: generated from its OpenAPI document, with the names that the page uses. */

import type { PhaseEnded as Ended, RunRecord, StepRecord, StrategyInfo as Described } from './api.d.ts';

export type {
  Ahead,
  Believed,
  EngineRecord as Engine,
  Fed,
  FrozenFork as Fork,
  FrozenRunSpec as Spec,
  Model,
  ModelInfo,
  Models,
  PromptRecord as Prompt,
  Relative,
  Replay,
  RunEvent,
  StepRecord as Step,
  Timing,
  Token,
} from './api.d.ts';

export type Kind = StepRecord['kind'];
export type Phase = StepRecord['phase'];
export type Status = RunRecord['status'];
export type PhaseEnded = Omit<Ended, 'type' | 'run' | 'seq'>;

export interface StrategyInfo extends Omit<Described, 'schema'> {
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
