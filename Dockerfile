# syntax=docker/dockerfile:1
# docker build -t tokenmirror .
# docker run --rm -v /path/to/workspace:/workspace -e TOKENMIRROR_WORKSPACE=/workspace -e PGSTORE_DSN=… tokenmirror

FROM node:22.19.0-alpine3.22 AS build
WORKDIR /app
COPY . .
RUN npm ci --ignore-scripts --no-audit --no-fund
RUN node scripts/bundle.mjs

FROM node:22.19.0-alpine3.22 AS dependencies
WORKDIR /app
COPY package.json package-lock.json ./
COPY packages/cli/package.json packages/cli/
RUN npm ci --omit=dev --ignore-scripts --no-audit --no-fund --workspace tokenmirror

FROM node:22.19.0-alpine3.22
ENV NODE_ENV=production
WORKDIR /app
COPY --from=dependencies /app/node_modules node_modules
COPY --from=build /app/packages/cli/package.json packages/cli/
COPY --from=build /app/packages/cli/bundle packages/cli/bundle
RUN ln -s /app/packages/cli/bundle/tokenmirror.js /usr/local/bin/tokenmirror
USER node
EXPOSE 8318
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=15s --timeout=10s --start-period=60s CMD ["tokenmirror", "health"]
ENTRYPOINT ["node", "/app/packages/cli/bundle/tokenmirror.js"]
CMD ["run"]
