#!/usr/bin/env node
/** Writes the reference of options into docs/configuration.md, from the table of options. */
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { renderReference } from '@tokenmirror/service';

const path = join(import.meta.dirname, '..', 'docs', 'configuration.md');
const [before] = readFileSync(path, 'utf8').split('### Workspace');
writeFileSync(path, `${before}${renderReference()}\n`);
