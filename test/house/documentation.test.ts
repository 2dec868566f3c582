import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, test } from '@jest/globals';
import { ERROR_CODES } from '@tokenmirror/core';
import { OPTION_NAMES, renderReference, VERSION } from '@tokenmirror/service';

const ROOT = join(import.meta.dirname, '../..');
const read = (path: string): string => readFileSync(join(ROOT, path), 'utf8');

test('the reference page of options is what the table says; `npm run reference` writes it', () => {
  expect(read('docs/configuration.md')).toContain(renderReference());
  for (const name of OPTION_NAMES) expect(read('docs/configuration.md')).toContain(`\`${name}\``);
});

test('every error code is explained', () => {
  for (const code of Object.keys(ERROR_CODES)) expect(read('docs/troubleshooting.md')).toContain(`### ${code}`);
});

test('the version is the same everywhere', () => {
  for (const name of readdirSync(join(ROOT, 'packages'))) {
    const { version } = JSON.parse(read(`packages/${name}/package.json`)) as { version: string };
    expect([name, version]).toEqual([name, VERSION]);
  }
  expect(read('CHANGELOG.md')).toContain(`## ${VERSION}`);
});

describe('links in the documentation', () => {
  const pages = [
    'README.md',
    'CONTRIBUTING.md',
    ...readdirSync(join(ROOT, 'docs'), { recursive: true, encoding: 'utf8' })
      .filter((page) => page.endsWith('.md'))
      .map((page) => `docs/${page}`),
  ];
  test.each(pages)('%s leads to files that exist', (page) => {
    for (const [, target = ''] of read(page).matchAll(/\]\((?!https?:|#)([^)#]+)[^)]*\)/g)) {
      const path = join(ROOT, page, '..', target);
      expect([target, readdirSync(join(path, '..')).includes(path.split('/').filter(Boolean).at(-1) ?? '')]).toEqual([target, true]);
    }
  });
});
