import type { AnnotationQuery, Dashboard } from '@grafana/schema';

// JSON holds the value of an enum where Grafana's types name its member.
type Json<T> = T extends string
  ? `${T}`
  : T extends (infer U)[]
    ? Json<U>[]
    : T extends object
      ? { [K in keyof T]: Json<T[K]> }
      : T;

// The Prometheus data source's own words, for which Grafana's schema leaves annotations open.
type Annotation = Omit<Json<AnnotationQuery>, 'target'> & {
  titleFormat: string;
  textFormat: string;
  target: { refId: string; expr: string; interval: string };
};

export type Board = Omit<Json<Dashboard>, 'annotations'> & { annotations: { list: Annotation[] } };
