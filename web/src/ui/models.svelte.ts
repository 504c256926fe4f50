/** The models of the server and how far their loading is. */

import type { Model, Models } from '../core/events.ts';
import { get, post, Problem } from './api.ts';

class ModelShelf {
  document = $state.raw<Models | null>(null);
  problem = $state<string | null>(null);
  private source: EventSource | null = null;

  /** Reads the list; watches it only while something loads: a browser has six connections for a host. */
  async refresh(): Promise<void> {
    try {
      this.take(await get<Models>('/api/models'));
      this.problem = null;
    } catch (error) {
      this.problem = error instanceof Problem ? error.message : String(error);
    }
  }

  /** Begins to load a model by name, folder or file. */
  async load(model: string): Promise<void> {
    this.problem = null;
    try {
      await post('/api/models/load', { model });
      await this.refresh();
    } catch (error) {
      this.problem = error instanceof Problem ? error.message : String(error);
    }
  }

  /** A model by name; null is the server's own. */
  find(name: string | null): Model | null {
    const wanted = name ?? this.document?.default;
    return this.document?.models.find((model) => model.name === wanted) ?? null;
  }

  private take(document: Models): void {
    this.document = document;
    const loading = document.models.some(({ status }) => status === 'loading');
    if (!loading) {
      this.source?.close();
      this.source = null;
    } else if (!this.source) {
      this.source = new EventSource('/api/models/events');
      this.source.onmessage = ({ data }: MessageEvent<string>) => this.take(JSON.parse(data) as Models);
    }
  }
}

const STAGES: Record<string, string> = {
  files: 'fetching files',
  weights: 'reading weights',
  'self-check': 'checking itself',
  'warm-up': 'warming up',
};

/** "reading weights · 43 %". */
export function loadingWords({ stage, done, total }: Model): string {
  const words = STAGES[stage ?? ''] ?? stage ?? 'loading';
  return total > 0 ? `${words} · ${Math.floor((100 * done) / total)} %` : words;
}

export const shelf = new ModelShelf();
