import { svelte } from '@sveltejs/vite-plugin-svelte';
import { defineConfig } from 'vitest/config';

const server = process.env['SUPERPOSE_URL'] ?? 'http://127.0.0.1:5000';

export default defineConfig({
  base: '/', // deep links such as /run/<id> load /assets/…
  plugins: [svelte()],
  build: { outDir: '../src/superpose/static', emptyOutDir: true, target: 'es2022', cssTarget: 'chrome120' },
  server: { proxy: { '/api': server, '/docs': server, '/openapi.json': server } },
  test: { environment: 'node', include: ['tests/**/*.test.ts'] },
});
