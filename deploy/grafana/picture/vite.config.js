import { defineConfig } from 'vite';

export default defineConfig({
  base: './',
  esbuild: { jsx: 'automatic' },
  define: { 'process.env': {}, global: 'globalThis' },
  build: { minify: false, target: 'esnext', chunkSizeWarningLimit: 10000 },
});
