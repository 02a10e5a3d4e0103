"""From the models to the CustomResourceDefinitions, the chart's CRD templates and the API reference."""
