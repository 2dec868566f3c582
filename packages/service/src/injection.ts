/** The one place that imports tsyringe: it needs the metadata polyfill before it. */
import 'reflect-metadata';

export { container, inject, injectable, injectAll, type DependencyContainer, type InjectionToken } from 'tsyringe';
