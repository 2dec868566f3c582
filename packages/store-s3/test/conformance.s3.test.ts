import { describe, test } from '@jest/globals';
import { describeConformance } from '@tokenmirror/store-conformance';
import { S3Store } from '@tokenmirror/store-s3';
import { TestBucket } from '@tokenmirror/testkit';

const CLUSTER = '.tokenmirror/cluster.json';

describeConformance(
  {
    name: 'the S3 store',
    create: () => {
      const bucket = new TestBucket();
      return Promise.resolve({
        connect: () => new S3Store({ ...bucket.access, prefix: bucket.prefix }),
        foreign: {
          write: (name, content) => bucket.put(name, content),
          remove: (name) => bucket.remove(name),
          removalShows: 'put back' as const,
        },
        loseIdentity: () => bucket.remove(CLUSTER),
        setFormat: async (format, oldestReader) => {
          const stored = JSON.parse((await bucket.get(CLUSTER)) ?? '') as object;
          await bucket.put(CLUSTER, JSON.stringify({ ...stored, format, oldestReader }));
        },
        destroy: () => bucket.destroy(),
      });
    },
  },
  { describe, test },
);
