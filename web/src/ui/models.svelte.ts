/** The models of the server: how far their loading is, and who waits for them. */

import type { Chosen } from '../core/api.d.ts';
import type { Ahead, Model, Models } from '../core/events.ts';
import { get, post, Problem } from './api.ts';

/** A refusal, and the model that it is about; null is one that the server does not list. */
interface Refusal {
  model: string | null;
  words: string;
}

class ModelShelf {
  document = $state.raw<Models | null>(null);
  refusal = $state.raw<Refusal | null>(null);
  lost = $state(false); // the stream is being sought
  private source: EventSource | null = null;
  private watchers = 0;

  /** Reads the list once. */
  async refresh(): Promise<void> {
    await this.ask(null, () => get<Models>('/api/models'));
  }

  /** Keeps the list new until the answer is called. A browser has six connections for a host, so call it. */
  watch(): () => void {
    this.watchers += 1;
    this.follow();
    return () => {
      this.watchers -= 1;
      this.follow();
    };
  }

  /** Begins to load a model by name, folder or file; the name that the server lists it under, null if refused. */
  async load(model: string): Promise<string | null> {
    return this.ask(model, () => post<Chosen>('/api/models/load', { model }));
  }

  /** Frees a model's memory, or dismisses one that failed; whether that was done. */
  async unload(model: string): Promise<boolean> {
    return (await this.ask(model, () => post<Chosen>('/api/models/unload', { model }))) !== null;
  }

  /** A model by name; null is the server's own. */
  find(name: string | null): Model | null {
    const wanted = name ?? this.document?.default;
    return this.document?.models.find((model) => model.name === wanted) ?? null;
  }

  /** What a draft calls a model: null is the server's own. */
  named(model: string): string | null {
    return model === this.document?.default ? null : model;
  }

  /** The place of a run that is not over. */
  place(run: string): Ahead | null {
    return this.document?.queue.find(({ id }) => id === run) ?? null;
  }

  private async ask(about: string | null, call: () => Promise<Models & { model?: string }>): Promise<string | null> {
    this.refusal = null;
    try {
      const document = await call();
      this.take(document);
      return document.model ?? '';
    } catch (error) {
      this.refusal = {
        model: about === null ? null : (this.find(about)?.name ?? null),
        words: error instanceof Problem ? error.message : String(error),
      };
      return null;
    }
  }

  private take(document: Models): void {
    this.document = document;
    this.follow();
  }

  /** Holds the stream open while somebody watches, or a model is on its way. */
  private follow(): void {
    const moving = this.document?.models.some(({ status }) => status === 'loading' || status === 'unloading');
    if (!moving && this.watchers === 0) {
      this.source?.close();
      this.source = null;
      this.lost = false;
    } else if (!this.source) {
      this.source = new EventSource('/api/models/events');
      this.source.onerror = () => (this.lost = true);
      this.source.onmessage = ({ data }: MessageEvent<string>) => {
        this.lost = false;
        this.take(JSON.parse(data) as Models);
      };
    }
  }
}

export const shelf = new ModelShelf();
