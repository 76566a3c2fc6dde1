package choreotest

func (h history) journalled(s *simulation) []violation { return nil }
